//! `sluice explain CODE`: what does a code of the API mean, whose is it, and what is to be done?

use super::{Exit, Failure, print, print_json};
use crate::api::explain::{self, Explained};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
CODE as dead letters and the log have it; 6603 is SMS.6603, and 429 is a status without a code.
The worker goes by the same table. For a field of a plan: `sluice check --explain FIELD`.
Example: sluice explain SMS.6603
         sluice explain 429 --json")]
pub(super) struct Args {
    /// Codes of the API's answers
    #[arg(required = true, value_name = "CODE")]
    codes: Vec<String>,
    /// As JSON, one row of the table a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    for code in &args.codes {
        let found = explain::explain(code);
        if found.is_empty() {
            return Err(unknown(code));
        }
        rows.extend(found);
    }
    let told: Vec<String> = if args.json {
        rows.iter().filter_map(|row| serde_json::to_string(row).ok()).collect()
    } else {
        rows.iter().map(told).collect()
    };
    if args.json {
        print_json(&format!("{}\n", told.join("\n")));
    } else {
        print(&format!("{}\n", told.join("\n\n")));
    }
    Ok(Exit::Done)
}

fn unknown(code: &str) -> Failure {
    let alike = explain::alike(code, 3);
    let meant = if alike.is_empty() {
        ".".to_owned()
    } else {
        format!("; did you mean {}?", alike.join(", "))
    };
    Failure::usage(format!(
        "{code:?} is no code of the table{meant} A code reads like SMS.6603 or APIGW.0308. What the worker does not know it \
         judges by the status: 4xx ends the request, 5xx is looked up and tried again"
    ))
}

fn told(row: &Explained) -> String {
    let status = match (&*row.code, &*row.status) {
        (_, "*") => String::new(),
        ("*" | "-", status) => format!("status {status}"),
        (_, status) => format!(" with status {status}"),
    };
    let code = if row.code == "*" || row.code == "-" { "" } else { &row.code };
    let people = row.people.replace("CODE", if code.is_empty() { "CAUSE" } else { code });
    format!(
        "{code}{status} ({}): {}\n  whose it is: {}\n  the worker:  {}\n  what to do:  {people}",
        row.class, row.meaning, row.whose, row.worker
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_told_in_four_lines_with_the_commands_to_copy() {
        let rows = explain::explain("SMS.6603");
        let text = told(&rows[0]);
        assert!(text.starts_with("SMS.6603 (rejected): the connection to SMS was lost"), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("sluice dead-letters replay --cause SMS.6603"), "{text}");
        let status = told(&explain::explain("429")[0]);
        assert!(status.starts_with("status 429 (throttled): "), "{status}");
    }

    #[test]
    fn one_that_is_not_known_names_what_is_alike_and_how_codes_read() {
        let said = unknown("SMS.6630").message;
        assert!(said.contains("did you mean") && said.contains("SMS.6603"), "{said}");
        let said = unknown("nonsense").message;
        assert!(
            said.starts_with("\"nonsense\" is no code of the table. A code reads like"),
            "{said}"
        );
    }
}
