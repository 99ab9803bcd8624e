//! Every state from ESTABLISHED on: closing, resets, and what unacceptable segments are answered with
//! (RFC 9293 sections 3.6 and 3.10.7.4, RFC 5961, RFC 6191, RFC 1337).

use tandem_packet::{SeqNumber, TcpFlags, TcpRepr, TcpTimestamps};

use super::script::{ESTABLISHED, Script, config, run};
use super::*;

/// A script that ends in each state; what comes next from us, and from the peer.
fn states() -> Vec<(State, String, u32, u32)> {
    let from = |text: &str| format!("{ESTABLISHED}{text}");
    let fin_wait_1 = "shutdown\n> F. 101 ack 1001\n";
    let close_wait = "< F. 1001 ack 101\n> . 101 ack 1002\n";
    vec![
        (State::Established, from(""), 101, 1001),
        (State::FinWait1, from(fin_wait_1), 102, 1001),
        (State::FinWait2, from(&format!("{fin_wait_1}< . 1001 ack 102\n")), 102, 1001),
        (
            State::Closing,
            from(&format!("{fin_wait_1}< F. 1001 ack 101\n> . 102 ack 1002\n")),
            102,
            1002,
        ),
        (
            State::TimeWait,
            from(&format!("{fin_wait_1}< F. 1001 ack 102\n> . 102 ack 1002\n")),
            102,
            1002,
        ),
        (State::CloseWait, from(close_wait), 101, 1002),
        (State::LastAck, from(&format!("{close_wait}shutdown\n> F. 101 ack 1002\n")), 102, 1002),
    ]
}

fn in_each_state(mut test: impl FnMut(State, &mut Script, u32, u32)) {
    for (state, text, next, peer_next) in states() {
        eprintln!("in {state:?}");
        let mut script = run(config(), &text);
        assert_eq!(script.connection.as_ref().unwrap().state(), state);
        test(state, &mut script, next, peer_next);
    }
}

#[test]
fn the_ways_to_close() {
    let scripts = [
        (
            "we first",
            "
            shutdown
            > F. 101 ack 1001
            state FinWait1
            < . 1001 ack 102
            state FinWait2
            timer none
            < P. 1001+10 ack 102       # half-closed: data still comes
            + 40
            > . 102 ack 1011
            read 10
            < F. 1011 ack 102
            > . 102 ack 1012
            state TimeWait
            eof
            timer 60000
            + 60000
            state Closed
            ok",
        ),
        (
            "FIN-WAIT-1: an ACK that does not cover the FIN leaves the state",
            "
            write 100
            > P. 101+100
            shutdown
            > F. 201
            < . 1001 ack 201
            state FinWait1
            < . 1001 ack 202
            state FinWait2",
        ),
        (
            "both at once",
            "
            shutdown
            > F. 101 ack 1001
            < F. 1001 ack 101
            > . 102 ack 1002
            state Closing
            < . 1002 ack 102
            state TimeWait",
        ),
        (
            "FIN with the ACK of ours",
            "
            shutdown
            > F. 101 ack 1001
            < F. 1001 ack 102
            > . 102 ack 1002
            state TimeWait",
        ),
        (
            "the peer first",
            "
            < F. 1001 ack 101
            > . 101 ack 1002
            state CloseWait
            eof
            write 100                  # half-closed: data still goes
            > P. 101+100 ack 1002
            < . 1002 ack 201
            shutdown
            > F. 201 ack 1002
            state LastAck
            < . 1002 ack 202
            state Closed
            ok
            timer none",
        ),
        (
            "LAST-ACK: an ACK that does not cover the FIN leaves the state",
            "
            < F. 1001 ack 101
            > . 101 ack 1002
            shutdown
            > F. 101 ack 1002
            < . 1002 ack 101
            state LastAck",
        ),
        (
            "data, then FIN, in one",
            "
            write 100
            > P. 101+100
            write 3000
            > . 201+2920
            shutdown
            > FP. 3121+80
            state FinWait1",
        ),
        (
            "a FIN out of order waits for what is missing",
            "
            < F. 1011 ack 101
            > . 101 ack 1001
            state Established
            < . 1001+10 ack 101
            > . 101 ack 1012
            state CloseWait
            read 10
            eof",
        ),
        (
            "nothing after a FIN counts",
            "
            < F. 1011 ack 101
            > . 101 ack 1001
            < . 1001+50 ack 101
            > . 101 ack 1012
            read 10
            eof",
        ),
        (
            "a lost FIN is repeated",
            "
            shutdown
            > F. 101 ack 1001
            + 1000
            > F. 101 ack 1001
            + 2000
            > F. 101 ack 1001
            stat retransmissions 2",
        ),
        (
            "a lost FIN with data is repeated with it",
            "
            write 10
            > P. 101+10 ack 1001
            shutdown
            > F. 111 ack 1001
            + 1000
            > FP. 101+10 ack 1001
            < . 1001 ack 112
            state FinWait2",
        ),
        (
            "a full close forgets FIN-WAIT-2 in time",
            "
            close
            > F. 101 ack 1001
            < . 1001 ack 102
            state FinWait2
            timer 60000
            + 60000
            state Closed",
        ),
        (
            "a full close in FIN-WAIT-2 arms the timer then",
            "
            shutdown
            > F. 101 ack 1001
            < . 1001 ack 102
            timer none
            close
            timer 60000",
        ),
        (
            "data after a full close is answered by a reset",
            "
            close
            > F. 101 ack 1001
            < P. 1001+10 ack 102
            > R. 102 ack 1001
            state Closed",
        ),
        (
            "a full close with unread data resets",
            "
            < P. 1001+10 ack 101
            close
            > R. 101 ack 1011
            state Closed
            error Aborted",
        ),
        (
            "a half-close with unread data does not",
            "
            < P. 1001+10 ack 101
            shutdown
            > F. 101 ack 1011
            state FinWait1
            read 10",
        ),
    ];
    for (name, text) in scripts {
        eprintln!("script: {name}");
        run(config(), &format!("{ESTABLISHED}{text}"));
    }
}

#[test]
fn resets() {
    in_each_state(|state, script, next, peer| {
        // RFC 5961 section 3.2: outside the window dropped, inside challenged, exact obeyed.
        script.run(&format!("< R {}\n< R {}", peer - 1, peer + 100_000));
        assert_eq!(script.connection.as_ref().unwrap().state(), state);
        if state == State::TimeWait {
            // RFC 1337 section 3.
            script.run(&format!("< R {peer}\nstate TimeWait"));
            return;
        }
        script.run(&format!("< R {}\n> . {next} ack {peer}", peer + 1));
        assert_eq!(script.connection.as_ref().unwrap().state(), state);
        script.run(&format!("< R. {peer} ack 0\nstate Closed\ntimer none"));
        let quiet = matches!(state, State::Closing | State::LastAck);
        let error = (!quiet).then_some(ConnectionError::Reset);
        assert_eq!(script.connection.as_ref().unwrap().error(), error);
        // CLOSED, section 3.10.7.1.
        script.run(&format!("< . {peer} ack 555\n> R 555\n< R {peer}"));
    });
}

#[test]
fn a_syn_is_challenged_in_every_state() {
    in_each_state(|state, script, next, peer| {
        // RFC 5961 section 4.2, whatever its number. TIME-WAIT answers SYNs by RFC 6191.
        for seq in [peer - 500, peer, peer + 1, peer + 100_000] {
            script.run(&format!("< S {seq}\n> . {next} ack {peer}"));
            assert_eq!(script.connection.as_ref().unwrap().state(), state);
        }
    });
}

#[test]
fn what_is_not_acceptable_is_answered() {
    in_each_state(|state, script, next, peer| {
        // Old text, and text beyond the window.
        script.run(&format!("< . {}+5 ack {next}\n> . {next} ack {peer}", peer - 5));
        if state != State::TimeWait {
            script.run(&format!("< . {}+5 ack 101\n> . {next} ack {peer}", peer + 70_000));
            // A keep-alive probe.
            script.run(&format!("< . {} ack 101\n> . {next} ack {peer}", peer - 1));
        }
        assert_eq!(script.connection.as_ref().unwrap().state(), state);
    });
}

#[test]
fn acknowledgements_out_of_range() {
    in_each_state(|state, script, next, peer| {
        if state == State::TimeWait {
            return;
        }
        // Without ACK: dropped, text and all.
        script.run(&format!("< P {peer}+5"));
        // Something not yet sent: answered and dropped (section 3.10.7.4). RFC 5961 section 5.2: too old.
        script.run(&format!("< . {peer}+5 ack {}\n> . {next} ack {peer}", next + 1));
        script
            .run(&format!("< . {peer}+5 ack {}\n> . {next} ack {peer}", next.wrapping_sub(70_000)));
        let connection = script.connection.as_ref().unwrap();
        assert_eq!((connection.stats().bad_acks, connection.readable_bytes()), (2, 0));
        assert_eq!(connection.state(), state);
        // An old one within the window is ignored, its text is not.
        if state.receives() {
            script.run(&format!("< . {peer}+5 ack 50\n+ 40\n> . {next} ack {}", peer + 5));
        }
    });
}

#[test]
fn abort_in_each_state() {
    in_each_state(|state, script, next, peer| {
        let silent = matches!(state, State::Closing | State::LastAck | State::TimeWait);
        let reset = if silent { String::new() } else { format!("> R. {next} ack {peer}") };
        script.run(&format!("abort\n{reset}\nstate Closed\ntimer none"));
    });
}

#[test]
fn challenges_are_limited() {
    let mut script = run(config(), ESTABLISHED);
    for _ in 0..10 {
        script.run("< S 5000\n> . 101 ack 1001");
    }
    script.run("< S 5000\n< R 1002\n< . 990 ack 101\nstat challenge_acks_suppressed 3");
    script.run("+ 1000\n< S 5000\n> . 101 ack 1001");
}

#[test]
fn time_wait_restarts_for_the_fin_only() {
    let close =
        "shutdown\n> F. 101 ack 1001\n< F. 1001 ack 102\n> . 102 ack 1002\nstate TimeWait\n";
    run(
        config(),
        &format!(
            "{ESTABLISHED}{close}
        + 10000
        timer 50000
        < F. 1001 ack 102
        > . 102 ack 1002
        timer 60000
        + 10000
        < . 1000+1 ack 102
        > . 102 ack 1002
        < . 1002 ack 102       # a bare acknowledgement is not answered
        timer 50000"
        ),
    );
}

fn entry(timestamps: Option<(u32, u32)>) -> TimeWait {
    TimeWait {
        snd_nxt: SeqNumber(102),
        rcv_nxt: SeqNumber(1002),
        window: 7,
        timestamps,
        expires: Instant::from_millis(60_000),
        duration: core::time::Duration::from_secs(60),
    }
}

#[test]
fn an_entry_of_time_wait_answers_like_the_connection() {
    let mut entry = entry(None);
    let now = Instant::from_millis(5000);
    let fin = TcpRepr {
        seq: SeqNumber(1001),
        flags: TcpFlags::FIN | TcpFlags::ACK,
        ..TcpRepr::default()
    };
    let TimeWaitVerdict::Reply(reply) = entry.input(now, &Segment::new(&fin, 0)) else {
        panic!("a FIN is answered");
    };
    let got = (reply.seq.0, reply.ack.0, reply.flags, reply.window);
    assert_eq!(got, (102, 1002, TcpFlags::ACK, 7));
    assert_eq!(entry.expires, Instant::from_millis(65_000));
}

/// RFC 6191 section 2.
#[test]
fn time_wait_is_reopened_by_what_is_newer() {
    // our TS.Recent, the SYN's timestamp and number, other flags, reopened?
    let ack = TcpFlags::ACK;
    let none = TcpFlags::empty();
    let table = [
        (None, None, 1003, none, true),
        (None, None, 1002, none, false),
        (None, None, 900, none, false),
        (None, Some(5), 1003, none, true),
        (Some(5), None, 1003, none, true),
        (Some(5), None, 900, none, false),
        (Some(5), Some(6), 900, none, true),
        (Some(5), Some(4), 1003, none, false),
        (Some(5), Some(5), 1003, none, true),
        (Some(5), Some(5), 900, none, false),
        (None, None, 1003, ack, false),
    ];
    for (recent, stamp, seq, flags, reopened) in table {
        let mut entry = entry(recent.map(|recent| (recent, 0)));
        let mut syn =
            TcpRepr { seq: SeqNumber(seq), flags: TcpFlags::SYN | flags, ..TcpRepr::default() };
        syn.options.timestamps = stamp.map(|value| TcpTimestamps { value, echo: 0 });
        let verdict = entry.input(Instant::ZERO, &Segment::new(&syn, 0));
        match verdict {
            TimeWaitVerdict::Reopen { iss_floor, .. } => {
                assert!(reopened, "{recent:?} {stamp:?} {seq}");
                assert_eq!(iss_floor, SeqNumber(102));
            }
            TimeWaitVerdict::Reply(_) => assert!(!reopened, "{recent:?} {stamp:?} {seq}"),
            TimeWaitVerdict::Drop => panic!("a SYN is answered"),
        }
    }
}

#[test]
fn calls_after_the_end() {
    let pool = pool(4);
    let mut script = run(config(), &format!("{ESTABLISHED}shutdown\n> F. 101 ack 1001"));
    let connection = script.connection.as_mut().unwrap();
    assert_eq!(connection.write(&pool, b"x"), Err(WriteError::Closed));
    assert_eq!(connection.read(&mut [0]), Err(ReadError::WouldBlock));
    script.run(
        "shutdown\nstate FinWait1\n< R 1001\nstate Closed\nclose\nabort\nshutdown\nerror Reset",
    );
    let connection = script.connection.as_mut().unwrap();
    assert_eq!(connection.write(&pool, b"x"), Err(ConnectionError::Reset.into()));
    assert_eq!(connection.read(&mut [0]), Err(ConnectionError::Reset.into()));
    let all = Readiness::READABLE | Readiness::WRITABLE | Readiness::CLOSED | Readiness::ERROR;
    assert!(connection.readiness().contains(all));
}

#[test]
fn tokens_come_back_however_it_ends() {
    for (end, done) in [("< . 1001 ack 110", 1), ("< R 1001", 2), ("abort\n> R. 119 ack 1001", 2)] {
        let pool = pool(8);
        let mut script = run(config(), ESTABLISHED);
        let connection = script.connection.as_mut().unwrap();
        for token in [1, 2] {
            let mut filler = pool.filler().unwrap();
            filler.write(b"ninebytes");
            connection.write_payload(filler.payload(0..9), Some(token)).unwrap();
        }
        script.run(&format!("> P. 101+18\n{end}"));
        let connection = script.connection.as_mut().unwrap();
        let tokens: Vec<u64> = std::iter::from_fn(|| connection.pop_completed()).collect();
        assert_eq!(tokens, (1..=done).collect::<Vec<_>>());
    }
}
