//! Writes what is made from the contract: `hw-model/rtl/tandem_pkg.sv` and
//! `docs/architecture/features.md`.

use std::path::Path;
use std::process::ExitCode;

use tandem_contract::{book, sv};

fn main() -> ExitCode {
    for (path, text) in [(sv::PACKAGE_PATH, sv::package()), (book::PAGE_PATH, book::page())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
