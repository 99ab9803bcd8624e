//! The page of the book that is made from the contract, `docs/architecture/features.md`. A test compares
//! it, so that the book cannot say something else than the hardware does.

use std::fmt::Write;

use crate::features::FEATURES;
use crate::layout::{self, COUNTERS};

/// Where the page stands, from this crate's folder.
pub const PAGE_PATH: &str = "../../docs/architecture/features.md";

/// The page.
pub fn page() -> String {
    let mut out = String::from(
        "# What the NIC offers\n\nMade from `hw-model/contract` by `cargo run -p tandem-contract --bin contract-gen`; do not edit.\n\n\
         ## Features\n\nBit by bit (virtio 1.3, 6 and 5.1.3): what the NIC offers, and what each client takes of it. \
         `cargo xtask lab smoke`\ncompares the Linux column with what a guest's `virtio_net` took; the driver's tests compare ours.\n\n\
         | bit | VIRTIO_ | NIC offers | our driver takes | Linux 6.12 takes | note |\n|---|---|---|---|---|---|\n",
    );
    let mark = |yes: bool| if yes { "yes" } else { "-" };
    for f in FEATURES {
        let takes = |client: bool| mark(f.offered && client);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            f.bit,
            f.name,
            mark(f.offered),
            takes(f.tandem_takes),
            takes(f.linux_takes),
            f.note
        );
    }
    let blocks = [
        (layout::COMMON_BASE, layout::COMMON_LEN, "common configuration (4.1.4.3)"),
        (layout::ISR_BASE, layout::ISR_LEN, "ISR status (4.1.4.5)"),
        (layout::DEVICE_BASE, layout::DEVICE_LEN, "device configuration (5.1.4)"),
        (
            layout::NOTIFY_BASE,
            layout::NOTIFY_STRIDE,
            "notifications (4.1.4.4); length for each queue",
        ),
        (layout::COUNTERS_BASE, 8 * COUNTERS.len() as u32, "counters"),
        (layout::MSIX_TABLE_BASE, 16, "MSI-X table; length for each vector"),
        (layout::MSIX_PBA_BASE, 8, "MSI-X pending bits; length for each 64 vectors"),
    ];
    let _ = write!(
        out,
        "\n## BAR 0\n\n64-bit memory, {} KiB.\n\n| offset | bytes | what |\n|---|---|---|\n",
        layout::BAR0_LEN / 1024
    );
    for (base, len, what) in blocks {
        let _ = writeln!(out, "| {base:#06x} | {len} | {what} |");
    }
    let _ = write!(
        out,
        "\n## Counters\n\nFrom {:#06x}, 64 bits each; reading the low half latches the high half.\n\n\
         | offset | name | what |\n|---|---|---|\n",
        layout::COUNTERS_BASE
    );
    for (offset, name, what) in COUNTERS {
        let _ = writeln!(out, "| {offset:#04x} | {name} | {what} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_page_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE_PATH);
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == page(), "run `cargo run -p tandem-contract --bin contract-gen`");
    }
}
