//! Plants bugs: changes single places of the RTL's text, each behind a number that a port selects.

use std::path::{Path, PathBuf};

use crate::Result;

/// The top's port after which `bug_i` is put.
const AFTER: &str = "input  wire logic                 rst_ni,";

/// The port that selects a bug; 0 selects none.
const PORT: &str = "input  wire logic [7:0]           bug_i,";

struct Mutant {
    number: u8,
    file: String,
    old: String,
    new: String,
}

/// The changed texts of those `files` that a list changes.
pub(crate) fn plant(list: &Path, top: &str, files: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let mutants = read(list)?;
    let mut changed = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut text = crate::read(file)?;
        let mut touched = false;
        if *name == format!("{top}.sv") {
            text = replace(&text, AFTER, &format!("{AFTER}\n  {PORT}"))
                .ok_or_else(|| format!("no place for the port bug_i in {name}"))?;
            touched = true;
        }
        for mutant in mutants.iter().filter(|mutant| mutant.file == name) {
            // A name that begins with the top's is found from every module below it.
            let on = format!("({top}.bug_i == 8'd{})", mutant.number);
            text = replace(&text, &mutant.old, &mutant.new.replace("BUG", &on)).ok_or_else(|| {
                format!(
                    "planted bug {} does not fit any more: `{}` does not stand exactly once in {name}",
                    mutant.number, mutant.old
                )
            })?;
            touched = true;
        }
        if touched {
            changed.push((file.clone(), text));
        }
    }
    let placed = |mutant: &&Mutant| !changed.iter().any(|(path, _)| path.ends_with(&mutant.file));
    if let Some(lost) = mutants.iter().find(placed) {
        return Err(format!("planted bug {}: {top} has no file {}", lost.number, lost.file));
    }
    Ok(changed)
}

/// `text` with the only occurrence of `old` replaced.
fn replace(text: &str, old: &str, new: &str) -> Option<String> {
    (text.matches(old).count() == 1).then(|| text.replacen(old, new, 1))
}

fn read(list: &Path) -> Result<Vec<Mutant>> {
    println!("cargo::rerun-if-changed={}", list.display());
    let mut mutants: Vec<Mutant> = Vec::new();
    for (number, line) in crate::read(list)?.lines().enumerate() {
        let bad = || format!("{}:{}: cannot be read", list.display(), number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(old) = line.strip_prefix("< ") {
            mutants.last_mut().ok_or_else(bad)?.old = old.to_owned();
        } else if let Some(new) = line.strip_prefix("> ") {
            mutants.last_mut().ok_or_else(bad)?.new = new.to_owned();
        } else {
            let (head, _) = line.split_once(':').ok_or_else(bad)?;
            let (number, file) = head.split_once(' ').ok_or_else(bad)?;
            mutants.push(Mutant {
                number: number.parse().map_err(|_| bad())?,
                file: file.trim().to_owned(),
                old: String::new(),
                new: String::new(),
            });
        }
    }
    Ok(mutants)
}
