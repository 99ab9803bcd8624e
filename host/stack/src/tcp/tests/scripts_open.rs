//! Opening: RFC 9293 sections 3.5, 3.10.7.1 to 3.10.7.3, and SYN-RECEIVED.

use core::time::Duration;

use tandem_packet::{SeqNumber, TcpFlags, TcpRepr};

use super::super::listen::{judge, reset_for};
use super::script::{config, run};
use super::*;

fn each(scripts: &[(&str, &str)]) {
    for (name, text) in scripts {
        eprintln!("script: {name}");
        run(config(), text);
    }
}

#[test]
fn handshakes() {
    each(&[
        (
            "active",
            "
            active
            > S 100 win 65535 mss 1460
            timer 1000
            < S. 1000 ack 101 win 5000 mss 1460
            > . 101 ack 1001 win 65535
            state Established
            ready WRITABLE
            timer none",
        ),
        (
            "passive",
            "
            passive
            < S 1000 win 65535 mss 1460
            > S. 100 ack 1001 mss 1460
            state SynReceived
            < . 1001 ack 101
            state Established
            timer none",
        ),
        (
            "simultaneous, figure 8",
            "
            active
            > S 100
            < S 1000 mss 1460
            > S. 100 ack 1001
            state SynReceived
            < S. 1000 ack 101
            state Established",
        ),
        (
            "simultaneous, the peer's answer an ACK",
            "
            active
            > S 100
            < S 1000 mss 1460
            > S. 100 ack 1001
            < . 1001 ack 101
            state Established",
        ),
        (
            "data with the ACK of the SYN-ACK",
            "
            passive
            < S 1000 mss 1460
            > S. 100 ack 1001
            < P. 1001+10 ack 101
            state Established
            read 10
            + 40
            > . 101 ack 1011",
        ),
        (
            "data and FIN with the SYN-ACK",
            "
            active
            > S 100
            < SFP. 1000+10 ack 101
            > . 101 ack 1012
            state CloseWait
            read 10
            eof",
        ),
        (
            "writes before the handshake is over go with it",
            "
            active
            > S 100
            write 10
            < S. 1000 ack 101 mss 1460
            > P. 101+10 ack 1001",
        ),
    ]);
}

#[test]
fn syn_sent() {
    each(&[
        (
            "an ACK of nothing is reset",
            "
            active
            > S 100
            < . 1000 ack 100
            > R 100
            < . 1000 ack 102
            > R 102
            < S. 1000 ack 500
            > R 500
            state SynSent",
        ),
        (
            "an unacceptable ACK with RST is dropped",
            "
            active
            > S 100
            < R. 1000 ack 100
            state SynSent",
        ),
        (
            "a reset without ACK is dropped",
            "
            active
            > S 100
            < R 0
            state SynSent",
        ),
        (
            "refused",
            "
            active
            > S 100
            < R. 0 ack 101
            state Closed
            error Refused
            timer none",
        ),
        (
            "neither SYN nor RST",
            "
            active
            > S 100
            < . 1000 ack 101
            < F 1000
            < - 1000+5
            state SynSent",
        ),
        (
            "close deletes it",
            "
            active
            > S 100
            close
            state Closed",
        ),
        (
            "abort says nothing",
            "
            active
            > S 100
            abort
            state Closed",
        ),
        (
            "a half-close waits for the handshake",
            "
            active
            > S 100
            shutdown
            state SynSent
            < S. 1000 ack 101 mss 1460
            > F. 101 ack 1001
            state FinWait1",
        ),
        (
            "a hard error of the network ends it",
            "
            active
            > S 100
            unreachable
            state Closed
            error Unreachable",
        ),
    ]);
}

#[test]
fn syn_received() {
    let open = |rest: &str| format!("passive\n< S 1000 mss 1460\n> S. 100 ack 1001\n{rest}");
    let scripts = [
        (
            "an ACK of nothing is reset",
            "
            < . 1001 ack 100
            > R 100
            < . 1001 ack 102
            > R 102
            state SynReceived",
        ),
        (
            "a reset returns to LISTEN without an error",
            "
            < R 1001
            state Closed
            ok",
        ),
        (
            "a reset beyond the next number is challenged",
            "
            < R 1002
            > . 101 ack 1001
            state SynReceived",
        ),
        (
            "a reset outside the window is dropped",
            "
            < R 1000
            state SynReceived",
        ),
        (
            "the SYN again: the SYN-ACK again",
            "
            < S 1000 mss 1460
            > S. 100 ack 1001
            state SynReceived",
        ),
        (
            "another SYN in the window returns to LISTEN",
            "
            < S 2000 mss 1460
            state Closed
            ok",
        ),
        (
            "another SYN outside the window is challenged",
            "
            < S 500 mss 1460
            > . 101 ack 1001
            state SynReceived",
        ),
        (
            "without ACK nothing happens",
            "
            < P 1001+10
            state SynReceived",
        ),
        (
            "old segments are answered",
            "
            < . 990+5 ack 101
            > . 101 ack 1001
            state SynReceived",
        ),
        (
            "a FIN with the ACK",
            "
            < F. 1001 ack 101
            > . 101 ack 1002
            state CloseWait",
        ),
        (
            "a FIN before the ACK",
            "
            < F 1001
            state SynReceived",
        ),
        (
            "close waits for ESTABLISHED",
            "
            close
            state SynReceived
            < . 1001 ack 101
            > F. 101 ack 1001
            state FinWait1",
        ),
        (
            "abort resets",
            "
            abort
            > R. 101 ack 1001
            state Closed",
        ),
    ];
    for (name, text) in scripts {
        eprintln!("script: {name}");
        run(config(), &open(text));
    }
}

#[test]
fn a_reset_in_a_simultaneous_open_is_a_refusal() {
    run(
        config(),
        "
        active
        > S 100
        < S 1000 mss 1460
        > S. 100 ack 1001
        < R 1001
        state Closed
        error Refused",
    );
}

#[test]
fn a_syn_is_repeated_with_back_off_and_given_up() {
    let mut text = String::from("active\n> S 100\n");
    let mut passed = 0;
    for wait in [1, 2, 4, 8, 16, 32, 60] {
        text += &format!("timer {}\n+ {}\n> S 100\n", wait * 1000, wait * 1000);
        passed += wait;
    }
    // Three minutes (MUST-23).
    text += &format!("+ {}\nstate Closed\nerror TimedOut\ntimer none\n", (180 - passed) * 1000);
    run(config(), &text);
}

#[test]
fn a_syn_ack_is_repeated_and_given_up() {
    let mut text = String::from("passive\n< S 1000\n> S. 100 ack 1001\n");
    let mut passed = 0;
    for wait in [1, 2, 4, 8, 16] {
        text += &format!("+ {}\n> S. 100 ack 1001\n", wait * 1000);
        passed += wait;
    }
    text += &format!("+ {}\nstate Closed\nerror TimedOut\n", (60 - passed) * 1000);
    run(config(), &text);
}

#[test]
fn a_lost_syn_costs_the_initial_window_and_three_seconds() {
    // RFC 6928 section 2; RFC 6298 (5.7).
    run(
        config(),
        "
        active
        > S 100
        + 1000
        > S 100
        < S. 1000 ack 101 mss 1460
        > . 101 ack 1001
        cwnd 1460
        write 3000
        > . 101+1460
        timer 3000",
    );
}

#[test]
fn options_of_the_handshake() {
    let offering = Config { timestamps: true, window_scaling: true, ..config() };
    let large = Config { receive_buffer_bytes_max: 1 << 20, ..offering };
    // Both offered and taken; the window of a SYN is not scaled, later ones are (RFC 7323 section 2.2).
    run(
        large,
        "
        active
        > S 100 win 65535 ws 5 mss 1460 ts 10000 0
        + 10
        < S. 1000 ack 101 win 4000 mss 1460 ws 7 ts 500 10000
        > . 101 ack 1001 win 32768 ts 10010 500
        write 2000
        > P. 101+2000 ts 10010 500
        < . 1001 ack 2101 win 20 ts 501 10010
        write 4000
        > . 2101+1448  # of 2560; the rest would be silly",
    );
    // Not answered: not used, the default MSS with it.
    let script = run(
        offering,
        "
        active
        > S 100 ws 0
        < S. 1000 ack 101 win 65535
        > . 101 ack 1001 win 65535
        limits 0 1
        write 600
        > . 101+536
        > P. 637+64",
    );
    let info = script.connection.unwrap().info();
    assert!(!info.timestamps && info.window_scale.is_none());
    // A SYN-ACK offers only what the SYN did.
    let script = run(
        offering,
        "
        passive
        < S 1000 mss 1000
        > S. 100 ack 1001 mss 1460
        < . 1001 ack 101",
    );
    let info = script.connection.unwrap().info();
    assert!(!info.timestamps && info.window_scale.is_none());
    assert_eq!(info.mss, 1000);
}

#[test]
fn mss_defaults_and_floor() {
    let syn = |mss| SynInfo {
        irs: SeqNumber(0),
        window: 1000,
        flags: TcpFlags::SYN,
        options: tandem_packet::TcpOptions { mss, ..Default::default() },
    };
    let initial = Initial::new(SeqNumber(0), 0);
    let table = [
        (Family::V4, 1500, None, 536),
        (Family::V6, 1500, None, 1220),
        (Family::V4, 1500, Some(9000), 1460),
        (Family::V6, 1500, Some(9000), 1440),
        (Family::V4, 9000, Some(8960), 8960),
        (Family::V4, 1500, Some(0), config::MSS_MIN),
        (Family::V6, 100, Some(9000), 1220),
    ];
    for (family, mtu, offer, mss) in table {
        let path = Path { family, mtu };
        let now = Instant::ZERO;
        let connection = Connection::accept(now, &config(), path, initial, &syn(offer));
        assert_eq!(connection.mss(), mss, "{family:?} {mtu} {offer:?}");
        assert_eq!(connection.stats().mss_clamped, u32::from(offer == Some(0)));
    }
}

/// RFC 9293 sections 3.10.7.1 and 3.10.7.2.
#[test]
fn segments_for_nobody() {
    let table = [
        // flags, in CLOSED (seq, ack, flags), in LISTEN
        (TcpFlags::RST, None, "ignore"),
        (TcpFlags::RST | TcpFlags::ACK, None, "ignore"),
        (TcpFlags::ACK, Some((77, 0, TcpFlags::RST)), "reset"),
        (TcpFlags::SYN | TcpFlags::ACK, Some((77, 0, TcpFlags::RST)), "reset"),
        (TcpFlags::SYN, Some((0, 55 + 10 + 1, TcpFlags::RST | TcpFlags::ACK)), "open"),
        (TcpFlags::FIN, Some((0, 55 + 10 + 1, TcpFlags::RST | TcpFlags::ACK)), "ignore"),
        (TcpFlags::PSH, Some((0, 55 + 10, TcpFlags::RST | TcpFlags::ACK)), "ignore"),
    ];
    for (flags, closed, listening) in table {
        let repr = TcpRepr { seq: SeqNumber(55), ack: SeqNumber(77), flags, ..TcpRepr::default() };
        let segment = Segment::new(&repr, 10);
        let reset = reset_for(&segment).map(|reset| (reset.seq.0, reset.ack.0, reset.flags));
        assert_eq!(reset, closed, "{flags:?}");
        let verdict = match judge(&segment) {
            ListenVerdict::Ignore => "ignore",
            ListenVerdict::Reset(_) => "reset",
            ListenVerdict::Open(_) => "open",
        };
        assert_eq!(verdict, listening, "{flags:?}");
    }
}

#[test]
fn an_unanswered_accept_does_not_stay_for_long() {
    let config = Config { accept_timeout: Duration::from_secs(5), ..config() };
    run(
        config,
        "
        passive
        < S 1000
        > S. 100
        + 1000
        > S. 100
        + 2000
        > S. 100
        + 2000
        state Closed",
    );
}
