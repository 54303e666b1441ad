//! The documentation: its links lead somewhere, and its commands do what they say.
//!
//! A block of a Markdown file that begins with ```` ```sh tested ```` or ```` ```python tested ````
//! is run against a server of the demo model.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{client_examples, process::Server};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the repository.
fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules"
            {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    found
}

/// A page's lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// Where the links of a line lead.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let after = line.split("](").skip(1);
    after.filter_map(|rest| rest.split([')', ' ']).next())
}

/// The anchors that GitHub gives to a page's headings.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in prose(&text).flat_map(links) {
            let elsewhere = ["http://", "https://", "mailto:"];
            if elsewhere.iter().any(|scheme| link.starts_with(scheme)) {
                continue;
            }
            followed += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let found = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap())
                        .iter()
                        .any(|known| known == anchor));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(followed > 20, "only {followed} links were found");
}

/// The blocks of a page that are marked for this language.
fn marked(text: &str, language: &str) -> Vec<String> {
    let start = format!("```{language} tested\n");
    let blocks = text.split(&start).skip(1);
    blocks
        .map(|rest| rest.split("\n```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn commands_marked_as_tested_do_what_they_say() {
    let server = Server::demo();
    let folder = tempfile::tempdir().unwrap();
    let temporary = format!("{}/", folder.path().display());
    let program = env!("CARGO_BIN_EXE_patchlight");
    let mut run = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for block in marked(&text, "sh") {
            let here = block
                .replace("localhost:8080", &server.address)
                .replace("/tmp/", &temporary)
                .replace("cargo run --release --", program);
            let said = Command::new("bash")
                .args(["-euo", "pipefail", "-c", &here])
                .current_dir(root())
                .stdin(Stdio::null())
                .output()
                .expect("bash runs");
            assert!(
                said.status.success(),
                "{}:\n{here}\n{}{}",
                page.display(),
                String::from_utf8_lossy(&said.stdout),
                String::from_utf8_lossy(&said.stderr)
            );
            run += 1;
        }
    }
    assert!(run >= 2, "only {run} blocks were found");
}

#[test]
fn python_marked_as_tested_does_what_it_says() {
    let Some(python) = client_examples::python() else {
        return;
    };
    let server = Server::demo();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for block in marked(&text, "python") {
            let here = block.replace("localhost:8080", &server.address);
            let said = Command::new(&python)
                .args(["-c", &here])
                .current_dir(root())
                .stdin(Stdio::null())
                .output()
                .expect("Python runs");
            let error = String::from_utf8_lossy(&said.stderr);
            assert!(said.status.success(), "{}:\n{error}", page.display());
        }
    }
}
