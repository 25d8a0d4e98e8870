//! How long, in words for people. What can be typed back is written by [`crate::config::values::show_duration`].

/// With its two largest units: `5 s`, `5 min 20 s`, `3 h 20 min`, `2 d 4 h`.
pub(crate) fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

/// With one unit, where a glance is enough: `90 s`, `5 min`, `3 h`, `2 d`.
pub(crate) fn roughly(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds} s"),
        100..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_two_units_and_a_rough_one_has_one() {
        let told = [0, 99, 320, 12_000, 187_200].map(|seconds| (span(seconds), roughly(seconds)));
        let told = told.each_ref().map(|(span, rough)| (span.as_str(), rough.as_str()));
        let expected = [
            ("0 s", "0 s"),
            ("1 min 39 s", "99 s"),
            ("5 min 20 s", "5 min"),
            ("3 h 20 min", "3 h"),
            ("2 d 4 h", "2 d"),
        ];
        assert_eq!(told, expected);
    }
}
