//! `cargo xtask lint`: everything that judges the source without running it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, on_path, root, step};
use crate::setup;

/// Version of cargo-deny that is installed when there is none.
const CARGO_DENY: &str = "0.20.2";

/// Runs all checks, and fails at the end if any failed, so that one run shows everything.
pub(crate) fn run() -> Result<()> {
    setup::run(setup::Consent::Ask)?;
    let checks: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("rustfmt", &|| step("rustfmt", cargo().args(["fmt", "--all", "--check"]))),
        ("clippy", &|| {
            step(
                "clippy",
                cargo()
                    .args(["clippy", "--workspace", "--all-targets", "--all-features"])
                    .args(["--", "-D", "warnings"]),
            )
        }),
        ("dependency direction", &|| {
            step(
                "dependency direction",
                cargo().args(["test", "-q", "-p", "xtask", "--test", "dependency_direction"]),
            )
        }),
        ("cargo-deny", &cargo_deny),
        ("verilator", &verilator),
        ("verible", &verible),
    ];
    let failed: Vec<String> = checks
        .iter()
        .filter_map(|(name, check)| {
            check().err().map(|error| {
                eprintln!("   {name}: {error:#}");
                (*name).to_owned()
            })
        })
        .collect();
    if failed.is_empty() {
        println!("== lint is clean");
        return Ok(());
    }
    bail!("lint: {} failed", failed.join(", "))
}

/// Licences, bans and sources. Advisories need a database from the network; see `deny.toml`.
fn cargo_deny() -> Result<()> {
    let installed = root().join("target/tools/cargo-deny");
    let binary = if on_path("cargo-deny") {
        PathBuf::from("cargo-deny")
    } else {
        let binary = installed.join("bin/cargo-deny");
        if !binary.is_file() {
            step(
                "installing cargo-deny into target/tools (about 3 minutes, once)",
                cargo()
                    .args(["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root"])
                    .arg(&installed),
            )?;
        }
        binary
    };
    step(
        "cargo-deny",
        Command::new(binary).current_dir(root()).args(["check", "licenses", "bans", "sources"]),
    )
}

fn rtl_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["hw-model/rtl", "hw-model/rtl/tops"] {
        let folder = root().join(folder);
        for entry in std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|ext| ext == "sv") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// `-Wall` on the whole NIC at both widths, and on every block's top.
fn verilator() -> Result<()> {
    let rtl = root().join("hw-model/rtl");
    let waivers = rtl.join("lint.vlt");
    for top in std::iter::once("tandem_nic".to_owned()).chain(block_tops(&rtl.join("tops"))?) {
        // Not every top has a width.
        let text = std::fs::read_to_string(rtl.join("tops").join(format!("{top}.sv")));
        let has_width = text.map_or(true, |text| text.contains("parameter int unsigned DataW"));
        for width in if has_width { &["64", "512"][..] } else { &["any"] } {
            let mut command = setup::verilator()?;
            command.args(["--lint-only", "-Wall", "--assert", "--top-module", &top]);
            if has_width {
                command.arg(format!("-GDataW={width}"));
            }
            command.arg("-I.").arg("-Itops").current_dir(&rtl);
            if waivers.is_file() {
                command.arg("lint.vlt");
            }
            command.args(["-f", "files.f"]);
            if top != "tandem_nic" {
                command.arg(format!("tops/{top}.sv"));
            }
            step(&format!("verilator -Wall: {top}, {width} bits"), &mut command)?;
        }
    }
    Ok(())
}

fn block_tops(folder: &Path) -> Result<Vec<String>> {
    let mut tops: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok())
        .filter_map(|entry| {
            entry.file_name().to_str().and_then(|n| n.strip_suffix(".sv").map(str::to_owned))
        })
        .collect();
    tops.sort();
    Ok(tops)
}

/// The formatter's check and the style lints.
fn verible() -> Result<()> {
    let files = rtl_files()?;
    let (lint, format) = setup::verible()?;
    let rules = root().join("hw-model/rtl/verible.rules");
    let mut command = Command::new(lint);
    command.current_dir(root());
    if rules.is_file() {
        command.arg(format!("--rules_config={}", rules.display()));
    }
    step("verible-verilog-lint", command.args(&files))?;
    step(
        "verible-verilog-format --verify",
        // It takes several files only with `--inplace`; `--verify` keeps it from writing.
        Command::new(format)
            .current_dir(root())
            .args(["--verify", "--inplace"])
            .args(FORMAT_FLAGS)
            .args(&files),
    )
}

/// Flags of the SystemVerilog formatter, the same for checking and for writing. Columns that were aligned
/// by hand stay as they are: tables of ports, fields and cases are made to be read.
const FORMAT_FLAGS: &[&str] = &[
    "--column_limit=100",
    "--indentation_spaces=2",
    "--try_wrap_long_lines=false",
    "--assignment_statement_alignment=preserve",
    "--case_items_alignment=preserve",
    "--class_member_variable_alignment=preserve",
    "--distribution_items_alignment=preserve",
    "--enum_assignment_statement_alignment=preserve",
    "--formal_parameters_alignment=preserve",
    "--formal_parameters_indentation=indent",
    "--module_net_variable_alignment=preserve",
    "--named_parameter_alignment=preserve",
    "--named_parameter_indentation=indent",
    "--named_port_alignment=preserve",
    "--named_port_indentation=indent",
    "--port_declarations_alignment=preserve",
    "--port_declarations_indentation=indent",
    "--struct_union_members_alignment=preserve",
];

/// `cargo xtask fmt`: writes what the check wants.
pub(crate) fn format() -> Result<()> {
    setup::run(setup::Consent::Ask)?;
    step("rustfmt", cargo().args(["fmt", "--all"]))?;
    let (_, format) = setup::verible()?;
    step(
        "verible-verilog-format",
        Command::new(format)
            .current_dir(root())
            .arg("--inplace")
            .args(FORMAT_FLAGS)
            .args(rtl_files()?),
    )
}
