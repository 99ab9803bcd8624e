//! The device contract: frames and their pool, metadata, capabilities, the Device and Queue traits.
