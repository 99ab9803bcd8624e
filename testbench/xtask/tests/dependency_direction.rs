//! Dependencies point one way: see the architecture page of the book.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Who may depend on whom, directly, outside dev-dependencies. Every crate outside `testbench/` is here, so
/// that nothing of the product can need the test bench; what is in `testbench/` may need everything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tandem-packet", &[]),
    ("tandem-device", &["tandem-packet"]),
    ("tandem-offload", &["tandem-packet", "tandem-device"]),
    ("tandem-stack", &["tandem-packet", "tandem-device", "tandem-offload"]),
    ("tandem-virtio", &["tandem-packet", "tandem-device"]),
    ("tandem-vfio-user", &[]),
    ("tandem-backends", &["tandem-packet", "tandem-device", "tandem-virtio", "tandem-vfio-user"]),
    (
        "tandem",
        &[
            "tandem-packet",
            "tandem-device",
            "tandem-offload",
            "tandem-stack",
            "tandem-virtio",
            "tandem-backends",
        ],
    ),
    ("tandem-contract", &[]),
    ("tandem-reference", &["tandem-contract"]),
    ("tandem-verilator-runtime", &[]),
    ("tandem-rtl-bindings", &["tandem-contract", "tandem-verilator-runtime"]),
];

fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let testbench = format!("{}/testbench/", metadata["workspace_root"].as_str().expect("a path"));
    packages
        .iter()
        .filter(|package| {
            !package["manifest_path"].as_str().expect("a path").starts_with(&testbench)
        })
        .map(|package| {
            let needs = package["dependencies"].as_array().expect("dependencies").iter();
            let needs = needs
                .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
                .filter_map(|dependency| dependency["name"].as_str())
                .filter(|name| ours.contains(name))
                .map(str::to_owned);
            (package["name"].as_str().expect("name").to_owned(), needs.collect())
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let graph = graph();
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ALLOWED.iter().map(|(name, needs)| (*name, needs.iter().copied().collect())).collect();
    for (name, needs) in &graph {
        let allowed = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} has no place in the architecture's graph"));
        for need in needs {
            assert!(
                allowed.contains(need.as_str()),
                "{name} may not depend on {need}; it may on {allowed:?}"
            );
        }
    }
    for name in allowed.keys() {
        assert!(graph.contains_key(*name), "{name} is in the graph but not in the workspace");
    }
}

#[test]
fn the_reference_shares_no_arithmetic_with_the_host() {
    let graph = graph();
    let mut reached = BTreeSet::new();
    let mut open = vec!["tandem-reference".to_owned()];
    while let Some(name) = open.pop() {
        for need in &graph[&name] {
            if reached.insert(need.clone()) {
                open.push(need.clone());
            }
        }
    }
    assert!(!reached.contains("tandem-offload"), "the twin must be independent: {reached:?}");
}
