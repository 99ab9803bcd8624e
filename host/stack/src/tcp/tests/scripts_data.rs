//! Data: acknowledgement, retransmission, congestion, windows, timestamps.

use core::time::Duration;

use super::script::{ESTABLISHED, Script, config, run};
use super::*;

fn established(text: &str) -> Script {
    run(config(), &format!("{ESTABLISHED}{text}"))
}

fn each(scripts: &[(&str, &str)]) {
    for (name, text) in scripts {
        eprintln!("script: {name}");
        established(text);
    }
}

#[test]
fn acknowledging() {
    each(&[
        (
            "RFC 1122 section 4.2.3.2: a small segment waits 40 ms",
            "
            < P. 1001+10 ack 101
            timer 40
            + 40
            > . 101 ack 1011
            timer none",
        ),
        (
            "every second full segment at once",
            "
            < . 1001+1460 ack 101
            < . 2461+1460 ack 101
            > . 101 ack 3921
            timer none",
        ),
        (
            "data carries it",
            "
            < P. 1001+10 ack 101
            write 5
            > P. 101+5 ack 1011
            timer 1000",
        ),
        (
            "a coalesced segment of two or more at once",
            "
            < . 1001+4380 ack 101 segs 3
            > . 101 ack 5381",
        ),
        (
            "RFC 5681 section 4.2: out of order at once, each one",
            "
            < . 1011+10 ack 101
            > . 101 ack 1001
            < . 1021+10 ack 101
            > . 101 ack 1001
            < . 1001+10 ack 101
            > . 101 ack 1031
            read 30",
        ),
        (
            "a part of a gap at once",
            "
            < . 1021+10 ack 101
            > . 101 ack 1001
            < . 1001+10 ack 101
            > . 101 ack 1011",
        ),
        (
            "an old segment with something new",
            "
            < . 1001+10 ack 101
            < . 996+25 ack 101
            > . 101 ack 1021
            read 20",
        ),
    ]);
}

/// Each segment out of order is a duplicate acknowledgement of its own, even when a whole batch comes before
/// anything is sent; else the peer's fast retransmit would never start.
#[test]
fn a_batch_out_of_order_owes_as_many_duplicates() {
    let pool = pool(64);
    let mut script = established("");
    let now = script.now;
    let connection = script.connection.as_mut().unwrap();
    for index in 1..=5u32 {
        let repr = tandem_packet::TcpRepr {
            seq: tandem_packet::SeqNumber(1001 + 10 * index),
            ack: tandem_packet::SeqNumber(101),
            flags: tandem_packet::TcpFlags::ACK,
            window: 65_535,
            ..Default::default()
        };
        connection.input(now, &Segment::new(&repr, 10), Some(frame(&pool, &[0; 10])));
    }
    script.run(&"> . 101 ack 1001\n".repeat(5));
}

#[test]
fn retransmission() {
    each(&[
        (
            "RFC 6298: back-off, go back, one segment at a time",
            "
            write 4380
            > P. 101+4380
            + 1000
            > . 101+1460
            cwnd 1460
            ssthresh 2920
            timer 2000
            + 2000
            > . 101+1460
            ssthresh 2920
            timer 4000
            < . 1001 ack 1561
            > P. 1561+2920
            cwnd 2920
            stat timeouts 2
            < . 1001 ack 4481
            timer none",
        ),
        (
            "an ACK for everything after a time-out sends nothing again",
            "
            write 4380
            > P. 101+4380
            + 1000
            > . 101+1460
            < . 1001 ack 4481
            timer none
            stat retransmissions 1",
        ),
        (
            "RFC 6298 (5.3): the timer restarts with each new ACK",
            "
            write 2920
            > P. 101+2920
            + 500
            < . 1001 ack 1561
            timer 1000",
        ),
        (
            "RFC 5681 section 3.2: the third duplicate",
            "
            write 14600
            > P. 101+14600
            < . 1001 ack 1561
            < . 1001 ack 1561
            < . 1001 ack 1561
            < . 1001 ack 1561
            > . 1561+1460
            ssthresh 6570
            stat fast_retransmits 1
            stat duplicate_acks_in 3",
        ),
        (
            "RFC 5681 section 2: neither data nor another window is a duplicate",
            "
            write 14600
            > P. 101+14600
            < . 1001 ack 1561
            < . 1001 ack 1561 win 60000
            < . 1001 ack 1561 win 50000
            < . 1001 ack 1561 win 40000
            < P. 1001+1 ack 1561 win 40000
            < P. 1002+1 ack 1561 win 40000
            < P. 1003+1 ack 1561 win 40000
            + 40
            > . 14701 ack 1004
            stat duplicate_acks_in 0",
        ),
        (
            "RFC 3042: limited transmit on the first two duplicates",
            "
            write 20000
            > . 101+14600
            < . 1001 ack 1561
            > . 14701+2920          # slow start: one acknowledged, one more
            < . 1001 ack 1561
            > . 17621+1460
            < . 1001 ack 1561
            > P. 19081+1020
            < . 1001 ack 1561
            > . 1561+1460",
        ),
    ]);
}

#[test]
fn new_reno_repairs_several_losses_in_one_recovery() {
    // 2, 4 of ten are lost (RFC 6582 section 3.2).
    established(
        "
        write 14600
        > P. 101+14600
        < . 1001 ack 1561
        < . 1001 ack 1561
        < . 1001 ack 1561
        < . 1001 ack 1561
        > . 1561+1460            # fast retransmit of the second
        cwnd 10950               # 13140 / 2 + 3 segments
        < . 1001 ack 1561
        cwnd 12410
        < . 1001 ack 4481        # partial: up to the fourth
        > . 4481+1460
        cwnd 10950               # less 2920, plus 1460
        < . 1001 ack 14701       # full
        cwnd 2920                # min (ssthresh, max (flight, SMSS) + SMSS)
        timer none
        stat timeouts 0
        stat retransmissions 2",
    );
}

#[test]
fn what_was_sent_twice_is_not_timed() {
    // Karn (RFC 6298 section 3): the one sample is of the SYN.
    established(
        "
        write 14600
        > P. 101+14600
        < . 1001 ack 1561
        < . 1001 ack 1561
        < . 1001 ack 1561
        < . 1001 ack 1561
        > . 1561+1460
        + 500
        < . 1001 ack 14701
        stat rtt_samples 1
        write 10
        > P. 14701+10
        < . 1001 ack 14711
        stat rtt_samples 2",
    );
}

#[test]
fn duplicates_after_a_time_out_do_not_start_recovery() {
    // RFC 6582 section 3.2, step 4: recover is the highest number sent.
    established(
        "
        write 14600
        > P. 101+14600
        + 1000
        > . 101+1460
        < . 1001 ack 101
        < . 1001 ack 101
        < . 1001 ack 101
        < . 1001 ack 101
        stat fast_retransmits 0",
    );
}

#[test]
fn a_silent_peer_is_given_up() {
    let config = Config { user_timeout: Duration::from_secs(100), ..config() };
    run(
        config,
        &format!(
            "{ESTABLISHED}
        write 10
        > P. 101+10
        + 1000
        > P. 101+10
        + 2000
        > P. 101+10
        + 4000
        > P. 101+10
        + 8000
        > P. 101+10
        + 16000
        > P. 101+10
        + 32000
        > P. 101+10
        timer 37000
        + 37000
        state Closed
        error TimedOut
        timer none"
        ),
    );
}

#[test]
fn windows() {
    each(&[
        (
            "RFC 9293 section 3.8.6.1: a zero window is probed, forever while it is answered",
            "
            < . 1001 ack 101 win 0
            write 100
            timer 1000
            + 1000
            > P. 101+1
            timer 2000
            < . 1001 ack 101 win 0
            + 2000
            > P. 101+1
            timer 4000
            < . 1001 ack 101 win 0
            timer 4000
            < . 1001 ack 101 win 1000
            > P. 101+100
            timer 1000
            < . 1001 ack 201
            timer none
            stat window_probes 2
            stat timeouts 0",
        ),
        (
            "a probe that was taken",
            "
            < . 1001 ack 101 win 0
            write 100
            + 1000
            > P. 101+1
            < . 1001 ack 102 win 0
            + 1000
            > P. 102+1
            < . 1001 ack 103 win 500
            > P. 103+98",
        ),
        (
            "nothing is probed when everything was taken, though the window stays shut",
            "
            write 3
            > P. 101+3
            < . 1001 ack 103 win 0
            + 1000
            > P. 103+1
            timer 2000
            < . 1001 ack 104 win 0
            timer none
            + 60000
            state Established",
        ),
        (
            "a FIN alone probes too",
            "
            < . 1001 ack 101 win 0
            shutdown
            + 1000
            > F. 101
            < . 1001 ack 102 win 0
            state FinWait2",
        ),
        (
            "a window that closes on what is in flight",
            "
            write 100
            > P. 101+100
            < . 1001 ack 101 win 0
            + 1000
            > P. 101+1
            < . 1001 ack 101 win 0
            < . 1001 ack 101 win 500
            > P. 101+100",
        ),
        (
            "section 3.8.6.2.1: no silly segments into a small window",
            "
            < . 1001 ack 101 win 2000
            write 3000
            > . 101+1460
            < . 1001 ack 1561 win 400
            timer 1000
            + 1000
            > . 1561+400            # the override timer
            < . 1001 ack 1961 win 2000
            > P. 1961+1140",
        ),
    ]);
    // A peer that never has room for a full segment.
    run(
        config(),
        "
        active
        > S 100
        < S. 1000 ack 101 win 1000 mss 1460
        > . 101 ack 1001
        write 2500
        > . 101+1000
        < . 1001 ack 601 win 400
        < . 1001 ack 1101 win 600
        > . 1101+600",
    );
    // It answers no probe: R2.
    let config = Config { user_timeout: Duration::from_secs(100), ..config() };
    run(
        config,
        &format!(
            "{ESTABLISHED}
        < . 1001 ack 101 win 0
        write 100
        + 1000
        > P. 101+1
        + 2000
        > P. 101+1
        + 4000
        > P. 101+1
        + 8000
        > P. 101+1
        + 16000
        > P. 101+1
        + 32000
        > P. 101+1
        + 38000
        state Closed
        error TimedOut"
        ),
    );
}

#[test]
fn a_closed_window_does_not_hold_a_closed_connection_for_ever() {
    for (call, ends) in [("close", true), ("shutdown", false)] {
        let config = Config { user_timeout: Duration::from_secs(100), ..config() };
        let zero = "< . 1001 ack 101 win 0\n";
        let mut text = format!("{ESTABLISHED}{zero}write 100\n{call}\n");
        for wait in [1, 2, 4, 8, 16, 32] {
            text += &format!("+ {}\n> P. 101+1\n{zero}", wait * 1000);
        }
        text +=
            if ends { "+ 38000\nstate Closed\nerror TimedOut" } else { "+ 38000\nstate FinWait1" };
        run(config, &text);
    }
}

#[test]
fn our_window_moves_by_worthwhile_steps_only() {
    // RFC 9293 section 3.8.6.2.2.
    let config = Config { receive_buffer_bytes_max: 4000, ..config() };
    run(
        config,
        "
        active
        > S 100 win 4000
        < S. 1000 ack 101 mss 1460
        > . 101 ack 1001 win 4000
        < . 1001+1460 ack 101
        + 40
        > . 101 ack 2461 win 2540
        < . 2461+1460 ack 101
        + 40
        > . 101 ack 3921 win 1080
        < . 3921+1080 ack 101
        + 40
        > . 101 ack 5001 win 0
        read 500                    # too little to tell
        < . 5001+1 ack 101          # a probe
        > . 101 ack 5001 win 0
        read 1500
        > . 101 ack 5001 win 2000   # half of the buffer
        read 2000
        > . 101 ack 5001 win 4000",
    );
}

#[test]
fn text_beyond_the_window_is_cut_and_its_fin_with_it() {
    let config = Config { receive_buffer_bytes_max: 4000, ..config() };
    run(
        config,
        "
        active
        > S 100 win 4000
        < S. 1000 ack 101 mss 1460
        > . 101 ack 1001 win 4000
        < . 4501+1000 ack 101
        > . 101 ack 1001 win 4000
        < F. 1001+4500 ack 101 segs 4
        > . 101 ack 5001 win 0
        state Established
        read 4000
        > . 101 ack 5001 win 4000
        < F. 5001+500 ack 101
        > . 101 ack 5502
        state CloseWait
        read 500
        eof",
    );
}

#[test]
fn a_window_of_zero_takes_acknowledgements_and_a_fin() {
    let config = Config { receive_buffer_bytes_max: 1000, ..config() };
    run(
        config,
        "
        active
        > S 100 win 1000
        < S. 1000 ack 101 mss 1460
        > . 101 ack 1001
        < . 1001+1000 ack 101
        + 40
        > . 101 ack 2001 win 0
        write 100
        > P. 101+100
        < . 2001+1 ack 201          # a probe that acknowledges
        > . 201 ack 2001 win 0
        timer none
        < F. 2001 ack 201
        > . 201 ack 2002
        state CloseWait
        read 1000
        eof",
    );
}

#[test]
fn nagle() {
    each(&[
        (
            "a second small segment waits for the first",
            "
            write 10
            > P. 101+10
            write 10
            write 10
            < . 1001 ack 111
            > P. 111+20",
        ),
        (
            "a full segment does not wait",
            "
            write 10
            > P. 101+10
            write 1500
            > . 111+1460
            < . 1001 ack 111
            > P. 1571+40",
        ),
        (
            "Minshall: a small one waits for no full one",
            "
            write 1460
            > P. 101+1460
            write 10
            > P. 1561+10",
        ),
        (
            "a FIN does not wait",
            "
            write 10
            > P. 101+10
            write 10
            shutdown
            > FP. 111+10",
        ),
        (
            "switched off",
            "
            nodelay
            write 10
            > P. 101+10
            write 10
            > P. 111+10",
        ),
    ]);
}

#[test]
fn super_segments() {
    each(&[
        (
            "whole segments only, before the last",
            "
            limits 5000 64
            write 10000
            > . 101+4380
            > . 4481+4380
            > P. 8861+1240",
        ),
        (
            "as many as the device takes",
            "
            limits 65000 2
            write 5000
            > . 101+2920
            > P. 3021+2080",
        ),
        (
            "one at a time",
            "
            limits 0 0
            write 2000
            > . 101+1460
            > P. 1561+540",
        ),
        (
            "no more than cwnd",
            "
            write 40000
            > . 101+14600
            < . 1001 ack 7401
            > . 14701+14600
            cwnd 21900",
        ),
    ]);
}

#[test]
fn an_idle_connection_starts_slowly_again() {
    // RFC 5681 section 4.1.
    established(
        "
        write 14600
        > P. 101+14600
        < . 1001 ack 14701
        cwnd 29200
        + 5000
        write 40000
        > . 14701+14600
        cwnd 14600",
    );
}

#[test]
fn a_smaller_path_sends_again_at_once() {
    established(
        "
        write 2920
        > P. 101+2920
        mtu 1040
        > P. 101+2920
        cwnd 14600
        limits 0 1
        < . 1001 ack 1101
        < . 1001 ack 3021
        write 1500
        > . 3021+1000
        > P. 4021+500
        stat timeouts 0",
    );
}

#[test]
fn timestamps() {
    let config = Config { timestamps: true, ..config() };
    let open = "
        active
        > S 100 ts 10000 0
        < S. 1000 ack 101 mss 1460 ts 500 10000
        > . 101 ack 1001 ts 10000 500
    ";
    let script = run(config, &format!("{open}
        < . 1001+10 ack 101 ts 510 10000
        + 40
        > . 101 ack 1011 ts 10040 510
        < . 1011+10 ack 101 ts 509 10000       # PAWS
        > . 101 ack 1011 ts 10040 510
        < . 1011+10 ack 101                    # without the option
        stat paws_drops 1
        stat missing_timestamps 1
        < . 1021+10 ack 101 ts 530 10000       # out of order: TS.Recent stays (RFC 7323 section 4.3)
        > . 101 ack 1011 ts 10040 510
        < R 1011                               # PAWS does not judge resets
        state Closed"));
    assert_eq!(script.connection.unwrap().stats().resets_in, 1);
    // RFC 7323 section 4: a retransmission gives a sample, since the echo tells which copy arrived.
    run(
        config,
        &format!(
            "{open}
        write 10
        > P. 101+10
        + 1000
        > P. 101+10 ts 11000 500
        timer 2000
        + 900
        < . 1001 ack 111 ts 600 11000
        timer none
        write 10
        > P. 111+10
        timer 1012                            # 0 and 900 ms: 900 / 8, and four times 900 / 4
        "
        ),
    );
}
