//! Writes `hw-model/rtl/tandem_pkg.sv`.

use std::path::Path;
use std::process::ExitCode;

use tandem_contract::sv;

fn main() -> ExitCode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(sv::PACKAGE_PATH);
    match std::fs::write(&path, sv::package()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
