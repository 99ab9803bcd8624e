//! Caps to Plan, and the software twins of the hardware: checksum, segmentation, coalescing.
