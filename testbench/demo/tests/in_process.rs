//! The whole program where no Linux is to be had at the other end.

use std::process::Command;

use tandem_demo::rows::{IN_PROCESS, Row};

#[test]
fn the_stages_run_against_a_peer_in_the_process() {
    let folder = std::env::temp_dir().join(format!("tandem-in-process-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let rows = folder.join("rows.json");
    let out = Command::new(env!("CARGO_BIN_EXE_tandem-demo"))
        .args(["run", "--in-process", "--stages", "tap,reference,removal", "--shrink", "16"])
        .arg("--rows")
        .arg(&rows)
        .arg("--out")
        .arg(&folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains(IN_PROCESS), "{text}");
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(&rows).unwrap()).unwrap();
    assert_eq!(rows.len(), 5);
    for row in &rows {
        assert!(row.sha256_ok && row.role.contains(IN_PROCESS), "{row:?}");
    }
    assert_eq!(rows[4].failovers, 1);
    assert!(rows[2].csum_hw > 0 && rows[2].csum_sw == 0, "{:?}", rows[2]);
    assert!(rows[0].csum_sw > 0 && rows[0].csum_hw == 0, "{:?}", rows[0]);
    std::fs::remove_dir_all(folder).unwrap();
}
