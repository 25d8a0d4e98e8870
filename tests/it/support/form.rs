//! How much of a long test is run? Its short form is part of every run: the same code with fewer points, shorter times.
//! The full one is run by `scripts/campaign`, which sets `SLUICE_FULL`.

/// What this run is given.
pub(crate) fn short_or_full<T>(short: T, full: T) -> T {
    if std::env::var_os("SLUICE_FULL").is_some() { full } else { short }
}

/// The number that a variable asks for, such as `SLUICE_KILLS`; otherwise what this run is given.
pub(crate) fn number<T: std::str::FromStr>(variable: &str, short: T, full: T) -> T {
    let asked = std::env::var(variable).ok();
    asked.map_or_else(
        || short_or_full(short, full),
        |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}
