//! The lists of models.

use std::collections::HashSet;
use std::env;
use std::path::Path;

use crate::Result;

/// One line of a list.
pub(crate) struct Model {
    /// Name, a lower-case identifier.
    pub(crate) name: String,
    /// Top module.
    pub(crate) top: String,
    /// Parameters, pinned.
    pub(crate) parameters: Vec<(String, String)>,
    /// Preprocessor names that are defined.
    pub(crate) defines: Vec<String>,
    /// Feature of this crate without which the model is not built.
    feature: Option<String>,
}

impl Model {
    /// Whether the model can write waves.
    pub(crate) fn traced(&self) -> bool {
        self.feature.as_deref() == Some("waves")
    }

    /// Whether bugs are planted in it.
    pub(crate) fn mutated(&self) -> bool {
        self.feature.as_deref() == Some("mutants")
    }

    /// Whether the features of this build ask for the model.
    pub(crate) fn enabled(&self) -> bool {
        self.feature.as_ref().is_none_or(|feature| {
            env::var_os(format!("CARGO_FEATURE_{}", feature.to_uppercase())).is_some()
        })
    }

    /// A value of a parameter, for the Rust table.
    pub(crate) fn describe(&self) -> String {
        let mut words: Vec<String> =
            self.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
        words.extend(self.defines.iter().map(|d| format!("+{d}")));
        words.join(" ")
    }
}

/// Reads a list; `feature` is that of lines that name none.
pub(crate) fn read(path: &Path, feature: Option<&str>) -> Result<Vec<Model>> {
    println!("cargo::rerun-if-changed={}", path.display());
    let mut models = Vec::new();
    for (number, line) in crate::read(path)?.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        let bad = |what: &str| format!("{}:{}: {what}", path.display(), number + 1);
        if !is_identifier(name) || name.contains(char::is_uppercase) {
            return Err(bad("the name must be a lower-case identifier"));
        }
        let top = words.next().filter(|top| is_identifier(top)).ok_or_else(|| bad("no top"))?;
        let mut model = Model {
            name: name.to_owned(),
            top: top.to_owned(),
            parameters: Vec::new(),
            defines: Vec::new(),
            feature: feature.map(str::to_owned),
        };
        for word in words {
            if let Some(feature) = word.strip_prefix('@') {
                model.feature = Some(feature.to_owned());
            } else if let Some(define) = word.strip_prefix('+') {
                model.defines.push(define.to_owned());
            } else if let Some((key, value)) = word.split_once('=') {
                model.parameters.push((key.to_owned(), value.to_owned()));
            } else {
                return Err(bad(&format!("`{word}` is none of Name=Value, +DEFINE, @feature")));
            }
        }
        models.push(model);
    }
    Ok(models)
}

/// Names must differ across the lists.
pub(crate) fn refuse_duplicates(models: &[Model]) -> Result<()> {
    let mut seen = HashSet::new();
    match models.iter().find(|model| !seen.insert(&model.name)) {
        Some(model) => Err(format!("two models are called {}", model.name)),
        None => Ok(()),
    }
}

fn is_identifier(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}
