use std::{env, fs, path::Path};

use super::{flags, resolve};

const BEGIN: &str = "<!-- generated: UPDATE_DOCS=1 cargo test --test integration config -->\n";
const END: &str = "<!-- end of generated -->";

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("docs/configuration.md lacks its opening marker");
    let (_, after) = rest.split_once(END).expect("docs/configuration.md lacks its closing marker");
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", wva::config::reference_markdown());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text == expected,
        "docs/configuration.md is out of date; run UPDATE_DOCS=1 cargo test --test integration config"
    );
}

#[test]
fn the_reference_names_every_key_of_the_resolved_view() {
    let reference = wva::config::reference_markdown();
    for path in resolve([flags(&[])]).unwrap().view.values.keys() {
        assert!(reference.contains(&format!("| `{path}`")), "{path} is missing");
    }
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let text = include_str!("../../../docs/configuration.md");
    let examples: Vec<_> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let document = wva::config::Document::file(Path::new("example"), example);
        resolve([wva::config::Layer::from_document(&document)]).unwrap_or_else(|errors| panic!("{errors}\n{example}"));
    }
}
