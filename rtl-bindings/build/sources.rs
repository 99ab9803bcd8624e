//! Which source files a top needs, in an order that Verilator takes.
//!
//! House style has one module or package a file, named as the file. So a file needs another when it
//! contains the other's name as a word outside comments, and a depth-first walk yields packages before
//! their users. A word too many costs nothing but a needless recompilation.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::Result;

/// All source files, by stem.
pub(crate) struct Sources {
    files: HashMap<String, File>,
    folders: Vec<PathBuf>,
}

struct File {
    path: PathBuf,
    /// Words that are stems of other files, in order of appearance.
    needs: Vec<String>,
    include: bool,
}

impl Sources {
    /// Reads all that is under these folders.
    pub(crate) fn scan(roots: &[PathBuf]) -> Result<Self> {
        let mut texts = Vec::new();
        let mut folders = roots.to_vec();
        let mut next = 0;
        while next < folders.len() {
            let folder = folders[next].clone();
            next += 1;
            let entries = folder.read_dir().map_err(|e| format!("{}: {e}", folder.display()))?;
            for entry in entries {
                let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "sv" || e == "svh") {
                    let text = without_comments(&crate::read(&path)?);
                    texts.push((path, text));
                }
            }
        }
        let stems: HashSet<String> = texts.iter().map(|(path, _)| stem(path)).collect();
        let files = texts
            .into_iter()
            .map(|(path, text)| {
                let own = stem(&path);
                let mut seen = HashSet::new();
                let needs = text
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .filter(|word| *word != own && stems.contains(*word) && seen.insert(*word))
                    .map(str::to_owned)
                    .collect();
                let include = path.extension().is_some_and(|e| e == "svh");
                (own, File { path, needs, include })
            })
            .collect();
        Ok(Self { files, folders })
    }

    /// The folders in which sources were looked for.
    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// What `top` needs: files to name to Verilator in this order, then files only included.
    pub(crate) fn closure(&self, top: &str) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        if !self.files.contains_key(top) {
            return Err(format!("no file {top}.sv for the module {top}"));
        }
        let (mut named, mut included) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        self.visit(top, &mut seen, &mut named, &mut included);
        Ok((named, included))
    }

    fn visit<'a>(
        &'a self,
        stem: &'a str,
        seen: &mut HashSet<&'a str>,
        named: &mut Vec<PathBuf>,
        included: &mut Vec<PathBuf>,
    ) {
        if !seen.insert(stem) {
            return;
        }
        let Some(file) = self.files.get(stem) else { return };
        for need in &file.needs {
            self.visit(need, seen, named, included);
        }
        if file.include { included } else { named }.push(file.path.clone());
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("/") {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = if rest.starts_with("//") {
            rest.find('\n')
        } else if rest.starts_with("/*") {
            rest.find("*/").map(|end| end + 2)
        } else {
            out.push('/');
            Some(1)
        };
        rest = &rest[end.unwrap_or(rest.len())..];
    }
    out.push_str(rest);
    out
}
