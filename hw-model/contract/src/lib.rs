//! One source for feature sets, BAR layout and registers, and the Nic trait that every NIC model implements.
