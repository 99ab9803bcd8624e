//! A NIC small enough to see through, and a server with it in a thread.
//!
//! Writing [`GO`] copies `LEN` bytes from `FROM` to `TO` by DMA, sends them to the wire and raises vector 1. A frame
//! from the wire is written to `RX` and raises vector 2. Interrupts obey the MSI-X table, the function mask and
//! MSI-X enable, as the contract demands.
#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tandem_contract::layout::{
    BAR0_LEN, CFG_NIC_BASE, CFG_NIC_END, MSIX_PBA_BASE, MSIX_TABLE_BASE,
};
use tandem_contract::nic::{
    Arrival, Bus, Cycle, DmaKind, DmaRequest, DmaResponse, FunctionControl, Nic, NicError,
    NicParams, Run, Width, WirePort,
};
use tandem_contract::trace::Event;
use tandem_nic_server::serve::{NicServer, Summary};
use tandem_nic_server::wire::{Wire, WireCounters};
use tandem_vfio_user::client::{Client, ClientConfig};
use tandem_vfio_user::server::Existing;

/// Long enough that a loaded machine never reaches it, short enough that a hang shows.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const FROM: u64 = 0x4100;
pub const TO: u64 = 0x4108;
pub const LEN: u64 = 0x4110;
pub const RX: u64 = 0x4118;
pub const GO: u64 = 0x3000;
/// Set when the last job met a bus error.
pub const ERROR: u64 = 0x4120;
/// A write here makes the model fail.
pub const BREAK: u64 = 0x4130;

#[derive(Default)]
pub struct Log {
    pub control: FunctionControl,
    pub resets: u32,
    pub config_writes: Vec<(u16, u32, u8)>,
    pub accesses: Vec<(u32, u32, Option<u32>)>,
}

enum Job {
    Read { from: u64, len: u32, to: u64 },
    Write { to: u64, data: Vec<u8>, vector: usize, send: bool },
}

pub struct FakeNic {
    params: NicParams,
    log: Arc<Mutex<Log>>,
    bar: Vec<u8>,
    config: [u32; 0x40],
    control: FunctionControl,
    now: Cycle,
    jobs: VecDeque<Job>,
    waiting: Option<Job>,
    pending: u64,
}

impl FakeNic {
    pub fn new(log: Arc<Mutex<Log>>) -> Self {
        let mut nic = Self {
            params: NicParams { model: "fake", msix_vectors: 3, ..NicParams::default() },
            log,
            bar: vec![0; BAR0_LEN as usize],
            config: [0; 0x40],
            control: FunctionControl::default(),
            now: 0,
            jobs: VecDeque::new(),
            waiting: None,
            pending: 0,
        };
        nic.clear();
        nic
    }

    fn clear(&mut self) {
        self.bar.fill(0);
        (self.pending, self.waiting) = (0, None);
        self.jobs.clear();
        for vector in 0..3 {
            // Masked after reset (PCI 3.0, 6.8.2.9).
            self.bar[MSIX_TABLE_BASE as usize + 16 * vector + 12] = 1;
        }
        for dword in 0..0x40 {
            self.config[dword] = 0xc0de_0000 + dword as u32;
        }
    }

    fn u64_at(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bar[at as usize..][..8].try_into().unwrap())
    }

    /// Sends the messages of pending vectors that may be sent.
    fn interrupts(&mut self, bus: &mut Bus<'_>) {
        for vector in 0..3 {
            let entry = u64::from(MSIX_TABLE_BASE) + 16 * vector;
            let masked = self.bar[entry as usize + 12] & 1 != 0 || self.control.msix_function_mask;
            if self.pending >> vector & 1 == 0
                || masked
                || !self.control.msix_enable
                || !self.control.bus_master
            {
                continue;
            }
            self.pending &= !(1 << vector);
            let data = &self.bar[entry as usize + 8..][..4];
            let request = DmaRequest {
                kind: DmaKind::Write,
                id: 7,
                function: 0,
                addr: self.u64_at(entry),
                len: 4,
                data,
            };
            bus.host.request(self.now, request);
            self.answer(bus);
        }
        self.bar[MSIX_PBA_BASE as usize] = self.pending as u8;
    }

    /// Waits for the response of the one request under way.
    fn answer(&mut self, bus: &mut Bus<'_>) -> DmaResponse {
        let mut response = DmaResponse::default();
        self.now = bus.host.next_response_at().expect("a response is due").max(self.now);
        assert!(bus.host.response(self.now, &mut response));
        response
    }

    fn work(&mut self, bus: &mut Bus<'_>, job: Job) {
        match job {
            Job::Read { from, len, to } => {
                let request = DmaRequest {
                    kind: DmaKind::Read,
                    id: 1,
                    function: 0,
                    addr: from,
                    len,
                    data: &[],
                };
                bus.host.request(self.now, request);
                let response = self.answer(bus);
                self.bar[ERROR as usize] = response.error.into();
                if !response.error {
                    self.jobs.push_back(Job::Write {
                        to,
                        data: response.data,
                        vector: 1,
                        send: true,
                    });
                }
            }
            Job::Write { to, data, vector, send } => {
                let len = data.len() as u32;
                let request = DmaRequest {
                    kind: DmaKind::Write,
                    id: 1,
                    function: 0,
                    addr: to,
                    len,
                    data: &data,
                };
                bus.host.request(self.now, request);
                self.bar[ERROR as usize] |= u8::from(self.answer(bus).error);
                if send {
                    bus.wire.departed(self.now, &data);
                }
                self.pending |= 1 << vector;
            }
        }
    }
}

impl Nic for FakeNic {
    fn params(&self) -> &NicParams {
        &self.params
    }

    fn now(&self) -> Cycle {
        self.now
    }

    fn bar_read(&mut self, _: &mut Bus<'_>, offset: u32, width: Width) -> Result<u32, NicError> {
        assert_eq!(offset % width.bytes(), 0, "unaligned");
        self.log.lock().unwrap().accesses.push((offset, width.bytes(), None));
        let mut bytes = [0; 4];
        let len = width.bytes() as usize;
        bytes[..len].copy_from_slice(&self.bar[offset as usize..][..len]);
        Ok(u32::from_le_bytes(bytes))
    }

    fn bar_write(
        &mut self,
        bus: &mut Bus<'_>,
        offset: u32,
        width: Width,
        value: u32,
    ) -> Result<(), NicError> {
        assert_eq!(offset % width.bytes(), 0, "unaligned");
        self.log.lock().unwrap().accesses.push((offset, width.bytes(), Some(value)));
        if u64::from(offset) == BREAK {
            return Err(NicError::Hang { what: "the planted fault", cycles: 1, at: self.now });
        }
        let len = width.bytes() as usize;
        self.bar[offset as usize..][..len].copy_from_slice(&value.to_le_bytes()[..len]);
        if u64::from(offset) == GO && self.control.bus_master {
            let (from, to, len) = (self.u64_at(FROM), self.u64_at(TO), self.u64_at(LEN) as u32);
            self.jobs.push_back(Job::Read { from, len, to });
        }
        self.interrupts(bus);
        Ok(())
    }

    fn config_read(&mut self, _: &mut Bus<'_>, offset: u16) -> Result<u32, NicError> {
        assert!((CFG_NIC_BASE..CFG_NIC_END).contains(&offset) && offset.is_multiple_of(4));
        Ok(self.config[offset as usize / 4])
    }

    fn config_write(
        &mut self,
        _: &mut Bus<'_>,
        offset: u16,
        value: u32,
        enable: u8,
    ) -> Result<(), NicError> {
        assert!((CFG_NIC_BASE..CFG_NIC_END).contains(&offset) && offset.is_multiple_of(4));
        self.log.lock().unwrap().config_writes.push((offset, value, enable));
        Ok(())
    }

    fn set_control(&mut self, control: FunctionControl) {
        (self.control, self.log.lock().unwrap().control) = (control, control);
    }

    fn function_reset(&mut self, _: &mut Bus<'_>) -> Result<(), NicError> {
        self.clear();
        self.log.lock().unwrap().resets += 1;
        Ok(())
    }

    fn run(&mut self, bus: &mut Bus<'_>, cycles: Cycle) -> Result<Run, NicError> {
        let begin = self.now;
        self.now += 1;
        let mut frame = Vec::new();
        if let Some(Arrival { error: false }) = bus.wire.arriving(self.now, &mut frame) {
            let to = self.u64_at(RX);
            if to != 0 && self.control.bus_master {
                self.jobs.push_back(Job::Write { to, data: frame, vector: 2, send: false });
            }
        }
        if let Some(job) = self.jobs.pop_front() {
            self.work(bus, job);
        }
        self.interrupts(bus);
        Ok(Run { cycles: (self.now - begin).min(cycles), idle: self.jobs.is_empty() })
    }

    fn skip_to(&mut self, cycle: Cycle) {
        assert!(cycle >= self.now && self.jobs.is_empty());
        self.now = cycle;
    }

    fn set_link(&mut self, _: bool) {}

    fn drain_trace(&mut self, _: &mut Vec<Event>) {}
}

/// A wire whose other side is the test.
#[derive(Clone, Default)]
pub struct TestWire {
    pub sent: Arc<Mutex<Vec<Vec<u8>>>>,
    pub arriving: Arc<Mutex<VecDeque<Vec<u8>>>>,
    pub ready: Arc<Mutex<bool>>,
}

impl WirePort for TestWire {
    fn arriving(&mut self, _: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        *frame = self.arriving.lock().unwrap().pop_front()?;
        Some(Arrival { error: false })
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        self.arriving.lock().unwrap().front().map(|_| 0)
    }

    fn ready(&mut self, _: Cycle) -> bool {
        true
    }

    fn departed(&mut self, _: Cycle, frame: &[u8]) {
        self.sent.lock().unwrap().push(frame.to_vec());
    }
}

impl From<TestWire> for Box<dyn Wire> {
    fn from(wire: TestWire) -> Self {
        Box::new(wire)
    }
}

impl Wire for TestWire {
    fn as_wire_port(&mut self) -> &mut dyn WirePort {
        self
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        WirePort::next_arrival_at(self)
    }

    fn poll(&mut self, _: Cycle) {}

    fn driver_ready(&mut self) {
        *self.ready.lock().unwrap() = true;
    }

    fn driver_gone(&mut self) {
        *self.ready.lock().unwrap() = false;
    }

    fn counters(&self) -> WireCounters {
        WireCounters::default()
    }
}

pub fn temp_path(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path =
        std::env::temp_dir().join(format!("tandem-nic-{name}-{}-{number}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// A served fake NIC; it ends when this is dropped.
pub struct Serving {
    pub path: PathBuf,
    pub log: Arc<Mutex<Log>>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<Result<Summary, String>>>,
}

impl Serving {
    pub fn start(name: &str, wire: impl Into<Box<dyn Wire>> + Send + 'static) -> Self {
        let path = temp_path(name);
        let log = Arc::new(Mutex::new(Log::default()));
        let (socket, for_nic) = (path.clone(), log.clone());
        let (stop, stopped) = UnixStream::pair().unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let nic = Box::new(FakeNic::new(for_nic));
            let server = NicServer::with(&socket, Existing::Refuse, nic, wire.into(), 250).unwrap();
            ready.send(()).unwrap();
            server.run(stopped.as_fd()).map_err(|error| error.to_string())
        });
        is_ready.recv().unwrap();
        Self { path, log, stop: Some(stop), thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path, ClientConfig::default()).unwrap()
    }

    /// Ends the server.
    pub fn finish(mut self) -> Result<Summary, String> {
        self.stop = None;
        self.thread.take().unwrap().join().unwrap()
    }

    /// Waits for the server to end by itself.
    pub fn join(mut self) -> Result<Summary, String> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            if !std::thread::panicking() {
                let _ = outcome.unwrap();
            }
        }
    }
}

/// Waits until something becomes true.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: never happened");
        std::thread::sleep(Duration::from_millis(1));
    }
}
