//! Finds Verilator and compiles its runtime library.

use std::env;
use std::path::{Path, PathBuf};

#[path = "src/find.rs"]
mod find;

/// What the compiler must be told wherever a Verilator header is included.
const DEFINES: &[(&str, &str)] = &[
    ("VL_TIME_CONTEXT", "1"),
    ("VM_COVERAGE", "0"),
    ("VM_SC", "0"),
    ("VM_TRACE", "0"),
    // Runtime errors are recorded (see cpp/hooks.cpp) instead of ending the process.
    ("VL_USER_FINISH", "1"),
    ("VL_USER_STOP", "1"),
    ("VL_USER_FATAL", "1"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/find.rs");
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-env-changed={}", find::ENV);
    println!("cargo::rerun-if-env-changed=PATH");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let workspace = manifest.ancestors().nth(2).expect("the crate lies two levels down");
    let found = match find::verilator(workspace) {
        Ok(found) => found,
        Err(message) => {
            // Without this the next build would not look again after `cargo xtask setup`.
            println!("cargo::rerun-if-changed={}", find::installed(workspace).display());
            println!("cargo::error={message}");
            std::process::exit(1);
        }
    };
    println!("cargo::rerun-if-changed={}", found.binary.display());
    let include = found.root.join("include");
    compile(&include, &manifest.join("cpp"));
    println!("cargo::metadata=root={}", found.root.display());
    println!("cargo::metadata=binary={}", found.binary.display());
    println!("cargo::metadata=version={}", found.version);
    let defines: Vec<String> = DEFINES.iter().map(|(k, v)| format!("{k}={v}")).collect();
    println!("cargo::metadata=defines={}", defines.join(" "));
}

fn compile(include: &Path, cpp: &Path) {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .opt_level(2)
        .debug(false)
        .warnings(false)
        .flag_if_supported("-march=native")
        .include(include)
        .include(include.join("vltstd"))
        .file(include.join("verilated.cpp"))
        .file(include.join("verilated_threads.cpp"))
        .file(cpp.join("hooks.cpp"));
    for (name, value) in DEFINES {
        build.define(name, *value);
    }
    if env::var_os("CARGO_FEATURE_FST").is_some() {
        for (library, variable) in [("z", "DEP_Z_INCLUDE"), ("lz4", "DEP_LZ4_INCLUDE")] {
            let paths = env::var_os(variable)
                .unwrap_or_else(|| panic!("the -sys crate of {library} names no include folder"));
            build.includes(env::split_paths(&paths));
        }
        build
            .include(include.join("fstcpp"))
            .file(include.join("verilated_fst_c.cpp"))
            .file(include.join("fstcpp/fstcpp_writer.cpp"))
            .file(include.join("fstcpp/fstcpp_variable_info.cpp"))
            .file(cpp.join("fst.cpp"));
    }
    build.compile("tandem_verilator_runtime");
}
