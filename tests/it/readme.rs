//! Does the README promise only what a test holds?

use std::fs;
use std::path::Path;

fn sources(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, table) = readme.split_once("| promise | held by |").expect("the table of promises");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let mut code = String::new();
    sources(&root.join("src"), &mut code);
    sources(&root.join("tests"), &mut code);
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| **")).collect();
    assert_eq!(rows.len(), 7, "seven promises");
    for row in rows {
        let names: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test holds: {row}");
        for name in names {
            assert!(
                code.contains(&format!("fn {name}(")),
                "the README names a test that is not there: {name}"
            );
        }
    }
}
