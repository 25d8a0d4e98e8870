//! How are figures told? As Markdown tables with their goals and conditions, printed and kept in a document.

use std::fmt::Write as _;
use std::process::Command;

/// A table of one kind of figures.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) head: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
    /// What they were measured with, apart from the machine.
    pub(crate) conditions: String,
}

impl Table {
    pub(crate) fn new(head: &'static [&'static str], conditions: impl Into<String>) -> Self {
        Self { head, rows: Vec::new(), conditions: conditions.into() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.head.len(), "a row of another length: {cells:?}");
        println!("  {}", cells.join(" | "));
        self.rows.push(cells.into());
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("\n{}\n\n| {} |\n", self.conditions, self.head.join(" | "));
        let _ = writeln!(text, "|{}", "---|".repeat(self.head.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }

    /// How many goals were missed.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().flatten().filter(|cell| cell.contains(MISSED)).count()
    }

    /// Puts it between the marks `<!-- bench:NAME -->` and `<!-- bench:end -->` of a file, under the `conditions` that
    /// held when it began.
    pub(crate) fn write(&self, name: &str, file: &str, conditions: &str) {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let (from, to) = (format!("<!-- bench:{name} -->\n"), "<!-- bench:end -->");
        let (before, rest) =
            text.split_once(&from).unwrap_or_else(|| panic!("{file} has no mark {}", from.trim()));
        let (_, after) = rest.split_once(to).unwrap_or_else(|| panic!("{file} has no mark {to}"));
        let told = self.markdown();
        let told = told.trim_start();
        let new = format!("{before}{from}{conditions}\n\n{told}{to}{after}");
        std::fs::write(file, new).unwrap();
    }
}

/// The machine and the versions, in a line.
pub(crate) fn conditions(rabbitmq: &str) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{} at {}; {} ({cores} threads), load {} before it; RabbitMQ {rabbitmq}, {}; commit {}.",
        env!("CARGO_PKG_NAME"),
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
        model.trim_start_matches([' ', '\t', ':']).trim(),
        load.split(' ').next().unwrap_or("?"),
        said("rustc", &["--version"]),
        said("git", &["describe", "--always", "--dirty"]),
    )
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "?".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// The value below which this share of the values lies, between two of them in proportion.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss)]
    let place = share * (values.len().max(1) - 1) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    match (values.get(below), values.get(above)) {
        (Some(low), Some(high)) => low + (high - low) * place.fract(),
        _ => f64::NAN,
    }
}

const MISSED: &str = "**no**";

/// Whether a goal was reached, for people.
pub(crate) fn met(kept: bool) -> String {
    if kept { "yes" } else { MISSED }.to_owned()
}
