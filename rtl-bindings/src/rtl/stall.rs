//! Holds a master to AXI's rule that what is offered stays as it is until it is taken (A3.2.1).

use crate::{Model, Port};

/// Watches one channel.
#[derive(Debug, Default)]
pub(super) struct StallCheck {
    /// Payload that was offered and not taken.
    held: Vec<u8>,
    stalled: bool,
}

impl StallCheck {
    /// To be called each cycle, with valid and ready as sampled.
    pub(super) fn check(
        &mut self,
        model: &Model,
        channel: &str,
        valid: bool,
        ready: bool,
        payload: &[Port],
    ) -> Result<(), String> {
        if self.stalled {
            if !valid {
                return Err(format!("{channel}: valid was withdrawn before ready"));
            }
            let mut at = 0;
            for &port in payload {
                let bytes = model.bytes(port);
                if self.held[at..at + bytes.len()] != *bytes {
                    let name = model.def().ports[port.index()].name;
                    return Err(format!("{channel}: {name} changed while stalled"));
                }
                at += bytes.len();
            }
        }
        let stalled = valid && !ready;
        if stalled && !self.stalled {
            self.held.clear();
            for &port in payload {
                self.held.extend_from_slice(model.bytes(port));
            }
        }
        self.stalled = stalled;
        Ok(())
    }
}
