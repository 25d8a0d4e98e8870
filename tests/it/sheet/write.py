"""Writes tables as other programs do: a JSON line {"file", "kind", "encoding", "separator", "rows"} in, "ok" or "no" out.

A cell is null, {"text": ...}, {"number": ...}, {"truth": ...} or {"time": "2026-11-28T22:30:00"}.
"""

import csv
import datetime
import json
import re
import sys

import openpyxl
import xlwt
from odf.opendocument import OpenDocumentSpreadsheet
from odf.table import Table, TableCell, TableRow
from odf.text import P


def time_of(cell):
    return datetime.datetime.fromisoformat(cell["time"])


def xlsx(job):
    book = openpyxl.Workbook()
    sheet = book.active
    for row, cells in enumerate(job["rows"], 1):
        for column, cell in enumerate(cells, 1):
            if cell is None:
                continue
            place = sheet.cell(row, column)
            if "time" in cell:
                place.value = time_of(cell)
                place.number_format = "yyyy-mm-dd hh:mm:ss"
            elif "text" in cell:
                # The format keeps "_x0041_" for an A; the writer leaves such texts as they are.
                place.value = re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", cell["text"])
                place.data_type = "s"  # a text is a text, whatever it looks like
            else:
                place.value = cell.get("number", cell.get("truth"))
    book.save(job["file"])


def xls(job):
    book = xlwt.Workbook(encoding="utf-8")
    sheet = book.add_sheet("Plan")
    dates = xlwt.easyxf(num_format_str="yyyy-mm-dd hh:mm:ss")
    for row, cells in enumerate(job["rows"]):
        for column, cell in enumerate(cells):
            if cell is None:
                continue
            if "time" in cell:
                sheet.write(row, column, time_of(cell), dates)
            else:
                sheet.write(row, column, next(iter(cell.values())))
    book.save(job["file"])


def ods(job):
    book = OpenDocumentSpreadsheet()
    sheet = Table(name="Plan")
    for cells in job["rows"]:
        row = TableRow()
        for cell in cells:
            if cell is None:
                row.addElement(TableCell())
                continue
            if "text" in cell:
                place, seen = TableCell(valuetype="string", stringvalue=cell["text"]), cell["text"]
            elif "time" in cell:
                place, seen = TableCell(valuetype="date", datevalue=cell["time"]), cell["time"]
            elif "truth" in cell:
                truth = "true" if cell["truth"] else "false"
                place, seen = TableCell(valuetype="boolean", booleanvalue=truth), truth.upper()
            else:
                number = repr(cell["number"])
                place, seen = TableCell(valuetype="float", value=number), number
            place.addElement(P(text=seen))
            row.addElement(place)
        sheet.addElement(row)
    book.spreadsheet.addElement(sheet)
    book.save(job["file"])


def table(job):
    comma = job["separator"] == ";"

    def seen(cell):
        if cell is None:
            return ""
        if "text" in cell:
            return cell["text"]
        if "time" in cell:
            return str(time_of(cell))
        if "truth" in cell:
            return "TRUE" if cell["truth"] else "FALSE"
        number = repr(cell["number"])
        return number.replace(".", ",") if comma else number

    quoting = csv.QUOTE_ALL if job["quoted"] else csv.QUOTE_MINIMAL
    with open(job["file"], "w", encoding=job["encoding"], newline="") as file:
        writer = csv.writer(file, delimiter=job["separator"], quoting=quoting)
        for cells in job["rows"]:
            writer.writerow([seen(cell) for cell in cells])


KINDS = {"xlsx": xlsx, "xls": xls, "ods": ods, "csv": table}

for line in sys.stdin:
    job = json.loads(line)
    try:
        KINDS[job["kind"]](job)
        print("ok", flush=True)
    except (UnicodeError, ValueError, openpyxl.utils.exceptions.IllegalCharacterError) as error:
        # what a writer refuses is in no file
        print("no", repr(error)[:200], flush=True)
