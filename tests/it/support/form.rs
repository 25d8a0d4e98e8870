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

mod tests {
    use std::path::{Path, PathBuf};

    /// The files below a directory.
    fn files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }

    /// The names of the tests of a file whose own lines ask for their form, and whether anything in it does.
    fn that_ask(text: &str) -> (Vec<&str>, bool) {
        let asks =
            |text: &str| text.contains("short_or_full(") || text.contains("number(\"SLUICE_");
        let functions = text.split("\n}\n").filter(|function| asks(function));
        let name = |function: &'_ str| {
            let at = function.rfind("\n#[test]").or(function.rfind("\n#[tokio::test"))?;
            let start = at + function[at..].find("fn ")? + 3;
            Some(start..start + function[start..].find('(')?)
        };
        let names = functions.clone().filter_map(|function| Some(&function[name(function)?]));
        (names.collect(), functions.count() > 0)
    }

    #[test]
    fn what_has_a_short_form_has_its_full_one_in_the_campaign() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = std::fs::read_to_string(root.join(".config/nextest.toml")).unwrap();
        let campaign = config.split("[profile.campaign]").nth(1).expect("the profile");
        let campaign = campaign.split("\"\"\"").nth(1).expect("its filter");
        let (mut names, mut starts) = (Vec::new(), Vec::new());
        for line in campaign
            .lines()
            .filter_map(|line| line.trim_start_matches(['|', ' ']).strip_prefix("test("))
        {
            match line.strip_suffix(')').and_then(|line| line.strip_suffix('/')) {
                Some(start) => starts.push(start.strip_prefix("/^").expect("an anchor")),
                None => names.push(line.trim_start_matches('=').trim_end_matches(')')),
            }
        }
        let is_run = |name: &str| {
            names.contains(&name) || starts.iter().any(|start| name.starts_with(start))
        };
        let tests = root.join("tests/it");
        let mut all = Vec::new();
        files(&tests, &mut all);
        let mut asked = 0;
        for path in all.iter().filter(|path| !path.starts_with(tests.join("support"))) {
            let text = std::fs::read_to_string(path).unwrap();
            let (asking, any) = that_ask(&text);
            let module = path.strip_prefix(&tests).unwrap().with_extension("");
            let module = module.to_string_lossy().replace("/mod", "").replace('/', "::");
            let module = format!("{module}::");
            for name in asking {
                asked += 1;
                let name = format!("{module}{name}");
                assert!(
                    is_run(&name),
                    "{name} has a short form; name it in profile.campaign of .config/nextest.toml"
                );
            }
            let has_one = names.iter().chain(&starts).any(|name| name.starts_with(&module));
            assert!(
                !any || has_one,
                "{module} has a short form, and profile.campaign names none of its tests"
            );
        }
        assert!(asked > 10, "{asked} tests with a form");
    }
}
