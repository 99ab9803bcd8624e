//! Tests of the whole connection.
