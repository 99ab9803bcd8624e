//! What users meet: poll loops, sockets, control, and the tandem command.
