//! The demo's table.

use serde::{Deserialize, Serialize};

/// What a row's role says when the peer was not Linux.
pub const IN_PROCESS: &str = "in-process peer";

/// One transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What carried it: `rtl`, `reference`, `tap`, or `rtl then tap` for a removal; `pair` instead of
    /// `tap` where there is none.
    pub backend: String,
    /// `client`: our stack fetched; with [`IN_PROCESS`] when it was from another of ours.
    pub role: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `checksum` or `none`: what the device did.
    pub offload: String,
    /// Bytes of body.
    pub bytes: u64,
    /// The body's hash is that of the file.
    pub sha256_ok: bool,
    /// Bits a second of real time; says nothing about a simulated NIC.
    pub goodput_wall_bit_s: f64,
    /// Bits a second of simulated time; only of free-running simulations.
    pub goodput_sim_bit_s: Option<f64>,
    /// Cycles for which the RTL's clock ran; the reference has no time.
    pub cycles: Option<u64>,
    /// Bytes of body a cycle; not of a removal, where not all of them went through the NIC.
    pub bytes_per_cycle: Option<f64>,
    /// Instructions of driver and stack for a byte; only where the processor's counters can be read.
    pub host_instructions_per_byte: Option<f64>,
    /// Frames both ways at the device.
    pub frames: u64,
    /// Checksums done by the device, both ways.
    pub csum_hw: u64,
    /// Checksums done in software, both ways.
    pub csum_sw: u64,
    /// TCP segments that we sent again.
    pub retransmissions: u64,
    /// Devices lost on the way.
    pub failovers: u64,
}

/// The table as text.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    let line = |cells: [&str; 11]| {
        format!(
            "{:<14} {:<5} {:<9} {:>9} {:<7} {:>12} {:>11} {:>8} {:>15} {:>7} {:>9}\n",
            cells[0],
            cells[1],
            cells[2],
            cells[3],
            cells[4],
            cells[5],
            cells[6],
            cells[7],
            cells[8],
            cells[9],
            cells[10]
        )
    };
    out += &line([
        "device",
        "ip",
        "offload",
        "KiB",
        "sha256",
        "bytes/cycle",
        "cycles",
        "frames",
        "checksum hw/sw",
        "resent",
        "failovers",
    ]);
    let optional = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    for row in rows {
        out += &line([
            &row.backend,
            row.family.trim_start_matches("ip"),
            &row.offload,
            &(row.bytes / 1024).to_string(),
            if row.sha256_ok { "ok" } else { "WRONG" },
            &optional(row.bytes_per_cycle.map(|value| format!("{value:.2}"))),
            &optional(row.cycles.map(|value| value.to_string())),
            &row.frames.to_string(),
            &format!("{}/{}", row.csum_hw, row.csum_sw),
            &row.retransmissions.to_string(),
            &row.failovers.to_string(),
        ]);
    }
    out += "\nCycles are those for which the simulated NIC's clock ran, waiting for 1 us of memory latency\n\
            included; at 4 ns a cycle 1 byte/cycle is 2 Gbit/s. How long the simulation took says nothing\n\
            about the NIC and is left out.\n";
    if rows.iter().any(|row| row.role.contains(IN_PROCESS)) {
        out += "The other end was an in-process peer, another stack of ours: this shows less than Linux would.\n";
    }
    for row in rows.iter().filter(|row| matches!(row.backend.as_str(), "tap" | "pair")) {
        out += &format!(
            "Nothing is simulated in {} over {}: {:.2} Gbit/s of real time.\n",
            row.family,
            row.backend,
            row.goodput_wall_bit_s / 1e9
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_devices_show_no_wall_time() {
        let tap = Row {
            backend: "tap".into(),
            role: "client".into(),
            family: "ipv4".into(),
            offload: "none".into(),
            bytes: 1 << 20,
            sha256_ok: true,
            goodput_wall_bit_s: 2.5e9,
            goodput_sim_bit_s: None,
            cycles: None,
            bytes_per_cycle: None,
            host_instructions_per_byte: None,
            frames: 10,
            csum_hw: 0,
            csum_sw: 10,
            retransmissions: 0,
            failovers: 0,
        };
        let rtl = Row {
            backend: "rtl".into(),
            cycles: Some(1000),
            bytes_per_cycle: Some(7.25),
            goodput_wall_bit_s: 123_456.0,
            ..tap.clone()
        };
        let text = table(&[rtl, tap]);
        assert!(text.contains("2.50 Gbit/s") && text.contains("7.25"), "{text}");
        assert!(!text.contains("123"), "no wall time for what is simulated: {text}");
    }
}
