//! A small language for tests of segments, in the manner of packetdrill. One step a line:
//!
//! ```text
//! active | passive                     begin
//! < FLAGS SEQ[+LEN] [ack N] [win N] [mss N] [ws N] [ts VALUE ECHO] [segs N]     a segment arrives
//! > FLAGS SEQ[+LEN] [...]              the next one that is sent; what is not named is not compared
//! + MS                                 time passes, deadlines fire
//! write N | read N | eof | shutdown | close | abort | nodelay | mtu N | limits BYTES SEGMENTS | unreachable
//! state NAME | error NAME | ok | timer MS | timer none | cwnd N | ssthresh N | stat NAME N | ready FLAGS
//! ```
//!
//! FLAGS are as tcpdump prints them: `S` SYN, `F` FIN, `R` RST, `P` PSH, `.` ACK. Our initial number is 100,
//! the peer's is what the script says. Whatever is sent and not expected fails the test.

use core::time::Duration;

use tandem_device::Pool;
use tandem_packet::{SeqNumber, TcpFlags, TcpOptions, TcpRepr, TcpTimestamps};

use super::super::listen;
use super::*;

pub(super) const ISS: u32 = 100;

/// No delayed surprises: what the scripts leave out is off.
pub(super) fn config() -> Config {
    Config {
        timestamps: false,
        window_scaling: false,
        receive_buffer_bytes_max: 65_535,
        delayed_ack: Duration::from_millis(40),
        rto_min: Duration::from_secs(1),
        ..Config::default()
    }
}

pub(super) struct Script {
    pub(super) connection: Option<Connection>,
    config: Config,
    pub(super) now: Instant,
    pool: Pool,
    limits: OutputLimits,
    stray: Vec<TcpRepr>,
    line: String,
}

/// Runs a script from nothing.
pub(super) fn run(config: Config, text: &str) -> Script {
    let mut script = Script::new(config);
    script.run(text);
    script
}

impl Script {
    pub(super) fn new(config: Config) -> Self {
        Self {
            connection: None,
            config,
            now: Instant::from_millis(10_000),
            pool: pool(512),
            limits: OutputLimits::FULL,
            stray: Vec::new(),
            line: String::new(),
        }
    }

    pub(super) fn run(&mut self, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            self.line = format!("line {}: {line}", number + 1);
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[0] != ">" {
                self.assert_quiet();
            }
            self.step(&words);
            if let Some(connection) = &self.connection {
                connection.check();
            }
        }
        self.line = "end".into();
        self.assert_quiet();
    }

    fn path() -> Path {
        Path { family: Family::V4, mtu: 1500 }
    }

    fn conn(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("the script began with active or a SYN")
    }

    fn next_output(&mut self) -> Option<(TcpRepr, u32)> {
        if let Some(repr) = self.stray.pop() {
            return Some((repr, 0));
        }
        let (now, limits) = (self.now, self.limits);
        let outgoing = self.connection.as_mut()?.output(now, &limits)?;
        payload_bytes(&outgoing);
        Some((outgoing.repr, outgoing.payload_len))
    }

    fn assert_quiet(&mut self) {
        if let Some((repr, len)) = self.next_output() {
            panic!("before {}: unexpected {repr:?} with {len} bytes", self.line);
        }
    }

    fn step(&mut self, words: &[&str]) {
        let now = self.now;
        let number = |index: usize| -> u64 { words[index].parse().expect("a number") };
        match words[0] {
            "active" => {
                let initial = Initial::new(SeqNumber(ISS), 0);
                self.connection =
                    Some(Connection::connect(now, &self.config, Self::path(), initial));
            }
            "passive" => self.connection = None,
            "<" => self.arrive(&words[1..]),
            ">" => self.expect(&words[1..]),
            "+" => self.pass(Duration::from_millis(number(1))),
            "write" => {
                let len = number(1) as usize;
                let pool = self.pool.clone();
                let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
                assert_eq!(self.conn().write(&pool, &bytes), Ok(len), "{}", self.line);
            }
            "read" => {
                let mut out = vec![0; number(1) as usize];
                let len = out.len();
                assert_eq!(self.conn().read(&mut out), Ok(len), "{}", self.line);
            }
            "eof" => assert_eq!(self.conn().read(&mut [0]), Ok(0), "{}", self.line),
            "shutdown" => _ = self.conn().shutdown_write(now),
            "close" => _ = self.conn().close(now),
            "abort" => _ = self.conn().abort(now),
            "nodelay" => self.conn().set_nodelay(true),
            "mtu" => self.conn().path_changed(now, number(1) as u32),
            "unreachable" => _ = self.conn().unreachable(now, true),
            "limits" => {
                self.limits = OutputLimits {
                    gso_bytes_max: number(1) as u32,
                    gso_segments_max: number(2) as u16,
                    ..OutputLimits::FULL
                };
            }
            "state" => {
                let state = format!("{:?}", self.conn().state());
                assert_eq!(state, words[1], "{}", self.line);
            }
            "error" => {
                let error = format!("{:?}", self.conn().error().expect("an error"));
                assert_eq!(error, words[1], "{}", self.line);
            }
            "ok" => assert_eq!(self.conn().error(), None, "{}", self.line),
            "timer" => {
                let deadline = self.conn().next_deadline().map(|at| at.since(now).as_millis());
                let expected = (words[1] != "none").then(|| u128::from(number(1)));
                assert_eq!(deadline, expected, "{}", self.line);
            }
            "cwnd" => assert_eq!(u64::from(self.conn().info().cwnd), number(1), "{}", self.line),
            "ssthresh" => {
                assert_eq!(u64::from(self.conn().info().ssthresh), number(1), "{}", self.line);
            }
            "stat" => {
                let stats = format!("{:?}", self.conn().stats());
                let field = format!(" {}: {}", words[1], words[2]);
                let found = stats.split(',').any(|part| part.ends_with(&field[1..]));
                assert!(found, "{}: {stats}", self.line);
            }
            "ready" => {
                let readiness = format!("{:?}", self.conn().readiness());
                let expected = format!("Readiness({})", words[1..].join(" "));
                assert_eq!(readiness, expected, "{}", self.line);
            }
            word => panic!("{}: no step is called {word}", self.line),
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        // Deadlines fire when they come, but nothing is sent before the step is over, so that a script has
        // to stop where something happens.
        while let Some(at) = self.connection.as_ref().and_then(Connection::next_deadline)
            && at <= end
        {
            self.now = self.now.max(at);
            let now = self.now;
            self.conn().on_deadline(now);
            assert!(
                !self.conn().wants_output() || self.now == end,
                "{}: something is to be sent {:?} before its end",
                self.line,
                end.since(self.now)
            );
        }
        self.now = end;
    }

    fn arrive(&mut self, words: &[&str]) {
        let (expected, len) = parse(words);
        let repr = expected.repr();
        let segment =
            Segment { wire_segments: expected.segments.unwrap_or(1), ..Segment::new(&repr, len) };
        let now = self.now;
        if self.connection.is_none() {
            match listen::judge(&segment) {
                ListenVerdict::Open(syn) => {
                    let initial = Initial::new(SeqNumber(ISS), 0);
                    let path = Self::path();
                    self.connection =
                        Some(Connection::accept(now, &self.config, path, initial, &syn));
                }
                ListenVerdict::Reset(reset) => self.stray.push(reset),
                ListenVerdict::Ignore => {}
            }
            return;
        }
        let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let payload = (len > 0).then(|| frame(&self.pool, &bytes));
        self.conn().input(now, &segment, payload);
    }

    fn expect(&mut self, words: &[&str]) {
        let (expected, expected_len) = parse(words);
        let Some((repr, len)) = self.next_output() else {
            panic!("{}: nothing was sent", self.line);
        };
        let ack = repr.flags.contains(TcpFlags::ACK).then_some(repr.ack.0);
        let line = &self.line;
        assert_eq!(
            (repr.flags, repr.seq.0, len),
            (expected.flags, expected.seq, expected_len),
            "{line}"
        );
        if expected.ack.is_some() {
            assert_eq!(ack, expected.ack, "{line}");
        }
        if let Some(window) = expected.window {
            assert_eq!(repr.window, window, "{line}");
        }
        if expected.options.mss.is_some() {
            assert_eq!(repr.options.mss, expected.options.mss, "{line}");
        }
        if expected.options.window_scale.is_some() {
            assert_eq!(repr.options.window_scale, expected.options.window_scale, "{line}");
        }
        if expected.options.timestamps.is_some() {
            assert_eq!(repr.options.timestamps, expected.options.timestamps, "{line}");
        }
        assert_eq!(
            (repr.src_port, repr.dst_port, repr.checksum),
            (0, 0, 0),
            "the caller's to fill"
        );
        assert_eq!(repr.options.mss.is_some(), repr.flags.contains(TcpFlags::SYN), "{line}");
    }
}

struct Expected {
    flags: TcpFlags,
    seq: u32,
    ack: Option<u32>,
    window: Option<u16>,
    options: TcpOptions,
    segments: Option<u16>,
}

impl Expected {
    fn repr(&self) -> TcpRepr {
        TcpRepr {
            seq: SeqNumber(self.seq),
            ack: SeqNumber(self.ack.unwrap_or(0)),
            flags: self.flags,
            window: self.window.unwrap_or(65_535),
            options: self.options,
            ..TcpRepr::default()
        }
    }
}

fn parse(words: &[&str]) -> (Expected, u32) {
    let mut flags = TcpFlags::empty();
    for letter in words[0].chars() {
        flags |= match letter {
            'S' => TcpFlags::SYN,
            'F' => TcpFlags::FIN,
            'R' => TcpFlags::RST,
            'P' => TcpFlags::PSH,
            '.' => TcpFlags::ACK,
            '-' => TcpFlags::empty(),
            other => panic!("no flag is called {other}"),
        };
    }
    let (seq, len) = words[1].split_once('+').unwrap_or((words[1], "0"));
    let mut expected = Expected {
        flags,
        seq: seq.parse().expect("a sequence number"),
        ack: None,
        window: None,
        options: TcpOptions::default(),
        segments: None,
    };
    let mut rest = words[2..].iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().expect("a value").parse::<u32>().expect("a number");
        match *word {
            "ack" => expected.ack = Some(value()),
            "win" => expected.window = Some(value() as u16),
            "mss" => expected.options.mss = Some(value() as u16),
            "ws" => expected.options.window_scale = Some(value() as u8),
            "ts" => {
                let stamps = TcpTimestamps { value: value(), echo: value() };
                expected.options.timestamps = Some(stamps);
            }
            "segs" => expected.segments = Some(value() as u16),
            other => panic!("no field is called {other}"),
        }
    }
    (expected, len.parse().expect("a length"))
}

/// ESTABLISHED by an active open; ours next is 101, the peer's 1001, its window 65,535, MSS 1460.
pub(super) const ESTABLISHED: &str = "
    active
    > S 100 win 65535 mss 1460
    < S. 1000 ack 101 win 65535 mss 1460
    > . 101 ack 1001
    state Established
";
