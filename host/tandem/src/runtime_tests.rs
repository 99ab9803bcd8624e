//! The runtime over a device that does what a test wants.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use tandem_device::{
    Caps, DeviceFlags, DeviceInfo, Frame, QueueLens, ReceiveMode, TransmitOutcome,
};
use tandem_packet::MacAddr;
use tandem_stack::{Event, Readiness, SocketHandle};

use super::*;

/// What the test and its device share.
#[derive(Default)]
struct World {
    state: OperState,
    gone: bool,
    full: bool,
    refuses_to_open: bool,
    closed: u32,
    sent: VecDeque<Frame>,
}

#[derive(Clone)]
struct Fake {
    world: Arc<Mutex<World>>,
    info: DeviceInfo,
}

impl Fake {
    fn new(name: &str, state: OperState) -> Self {
        let info = DeviceInfo {
            name: name.into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            flags: DeviceFlags::UP,
            speed_mbit_s: None,
            queues: 1,
        };
        Self { world: Arc::new(Mutex::new(World { state, ..World::default() })), info }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn check(&self) -> Result<(), DeviceError> {
        let gone =
            || DeviceError::Gone { name: self.info.name.clone(), reason: "unplugged".into() };
        if self.world().gone { Err(gone()) } else { Ok(()) }
    }
}

impl Device for Fake {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn caps(&self) -> Caps {
        Caps::plain(self.info.mtu)
    }

    fn oper_state(&mut self) -> OperState {
        self.world().state
    }

    fn open(&mut self) -> Result<(), DeviceError> {
        if self.world().refuses_to_open {
            self.world().gone = true;
        }
        self.check()
    }

    fn close(&mut self) -> Result<(), DeviceError> {
        self.world().closed += 1;
        Ok(())
    }

    fn take_queue(&mut self, _: u16) -> Result<Box<dyn Queue>, DeviceError> {
        Ok(Box::new(self.clone()))
    }

    fn set_mac(&mut self, _: MacAddr) -> Result<(), DeviceError> {
        Ok(())
    }

    fn set_receive_mode(&mut self, _: ReceiveMode) -> Result<(), DeviceError> {
        Ok(())
    }

    fn set_mtu(&mut self, _: u32) -> Result<(), DeviceError> {
        Ok(())
    }

    fn queue_lens(&self) -> QueueLens {
        QueueLens { rx: 1, tx: 1 }
    }

    fn set_queue_lens(&mut self, _: QueueLens) -> Result<(), DeviceError> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

impl Queue for Fake {
    fn receive(&mut self, _: usize, _: &mut Batch) -> Result<usize, DeviceError> {
        self.check().map(|()| 0)
    }

    fn transmit(&mut self, batch: &mut Batch) -> Result<TransmitOutcome, DeviceError> {
        self.check()?;
        if self.world().full {
            return Ok(TransmitOutcome { taken: 0, full: true });
        }
        let taken = batch.len();
        self.world().sent.extend(batch.drain(..));
        Ok(TransmitOutcome { taken, full: false })
    }

    fn completed(&mut self, _: &mut Vec<u64>) -> Result<(), DeviceError> {
        self.check()
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.check().map(|()| true)
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        never()
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

/// A descriptor that never becomes readable: the reading end of a pipe that is held open.
fn never<'a>() -> Option<BorrowedFd<'a>> {
    use std::os::fd::AsFd;
    use std::sync::OnceLock;
    static PIPE: OnceLock<(std::io::PipeReader, std::io::PipeWriter)> = OnceLock::new();
    Some(PIPE.get_or_init(|| std::io::pipe().unwrap()).0.as_fd())
}

const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn millis(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn runtime(fake: &Fake) -> (Runtime, IfaceId) {
    let mut config = RuntimeConfig::new([7; 16]);
    config.frames.buffers = 64;
    config.payload.buffers = 4;
    let mut runtime = Runtime::new(config).unwrap();
    let address = Address { address: Ipv4Addr::new(192, 0, 2, 2).into(), prefix_len: 24 };
    let device = Box::new(fake.clone());
    let iface =
        runtime.attach(Instant::ZERO, "eth0", device, &[address], Policy::default()).unwrap();
    // No address resolution: what is sent is what was asked for.
    runtime.namespace().add_neighbour(iface, PEER.into(), MacAddr([2, 0, 0, 0, 0, 9])).unwrap();
    (runtime, iface)
}

fn bound(runtime: &mut Runtime) -> SocketHandle {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    runtime.shard().udp_bind(NamespaceId(0), any).unwrap()
}

fn send(runtime: &mut Runtime, now: Instant, socket: SocketHandle) -> bool {
    let peer = SocketAddr::from((PEER, 9));
    runtime.shard().udp_send(now, socket, Some(peer), b"datagram").is_ok()
}

#[test]
fn a_carrier_that_comes_later_is_noticed() {
    let fake = Fake::new("fake", OperState::Dormant);
    let (mut runtime, _) = runtime(&fake);
    let socket = bound(&mut runtime);
    runtime.poll(millis(1)).unwrap();
    send(&mut runtime, millis(1), socket);
    runtime.poll(millis(2)).unwrap();
    assert!(fake.world().sent.is_empty(), "nothing is sent without a carrier");

    fake.world().state = OperState::Up;
    runtime.poll(millis(200)).unwrap();
    assert!(send(&mut runtime, millis(200), socket));
    runtime.poll(millis(201)).unwrap();
    assert!(!fake.world().sent.is_empty(), "a busy loop looks at the carrier");

    fake.world().state = OperState::Dormant;
    runtime.wait(millis(202), Duration::ZERO).unwrap();
    fake.world().sent.clear();
    send(&mut runtime, millis(202), socket);
    runtime.poll(millis(203)).unwrap();
    assert!(fake.world().sent.is_empty(), "a loop that sleeps looks each time");
}

#[test]
fn a_standby_that_does_not_open_leaves_the_interface_down_until_it_is_replaced() {
    let first = Fake::new("first", OperState::Up);
    let (mut runtime, iface) = runtime(&first);
    let socket = bound(&mut runtime);
    let broken = Fake::new("broken", OperState::Up);
    broken.world().refuses_to_open = true;
    runtime.set_standby(iface, Box::new(broken)).unwrap();
    runtime.poll(millis(1)).unwrap();

    first.world().gone = true;
    let error = runtime.poll(millis(2)).unwrap_err();
    assert_eq!(error.name, "eth0");
    assert_eq!(first.world().closed, 1, "its buffers come back");
    assert_eq!(runtime.ports[0].state, OperState::Down, "the stack knows");
    runtime.poll(millis(3)).unwrap();

    let second = Fake::new("second", OperState::Up);
    runtime.replace(millis(4), iface, Box::new(second.clone())).unwrap();
    assert!(send(&mut runtime, millis(4), socket));
    runtime.poll(millis(5)).unwrap();
    assert_eq!(second.world().sent.len(), 1);
}

#[test]
fn a_lost_device_without_a_standby_is_closed_and_told() {
    let fake = Fake::new("fake", OperState::Up);
    let (mut runtime, _) = runtime(&fake);
    fake.world().gone = true;
    let polled = runtime.poll(millis(1)).unwrap();
    assert_eq!(polled.failovers.len(), 1);
    assert!(polled.failovers[0].successor.is_none());
    assert_eq!(fake.world().closed, 1);
    assert_eq!(runtime.ports[0].state, OperState::Down);
}

#[test]
fn who_sent_by_reference_hears_of_frames_that_a_device_never_took() {
    let fake = Fake::new("fake", OperState::Up);
    let (mut runtime, _) = runtime(&fake);
    let socket = bound(&mut runtime);
    fake.world().full = true;
    let pool = Pool::new(PoolConfig::payload(1)).unwrap();
    let mut filler = pool.filler().unwrap();
    filler.write(b"by reference");
    let peer = SocketAddr::from((PEER, 9));
    let payload = filler.payload(0..12);
    runtime.shard().udp_send_payload(millis(1), socket, Some(peer), payload).unwrap();
    runtime.poll(millis(2)).unwrap();
    assert_eq!(runtime.ports[0].tx.len(), 1, "it waits for the device");

    fake.world().gone = true;
    runtime.poll(millis(3)).unwrap();
    let news: Vec<Event> = std::iter::from_fn(|| runtime.shard().next_event()).collect();
    assert!(
        news.iter().any(|event| event.socket == socket && event.ready.contains(Readiness::SENT)),
        "{news:?}"
    );
}

#[test]
fn a_full_device_is_looked_at_again_soon() {
    let fake = Fake::new("fake", OperState::Up);
    let (mut runtime, _) = runtime(&fake);
    let socket = bound(&mut runtime);
    fake.world().full = true;
    assert!(send(&mut runtime, millis(1), socket));
    runtime.poll(millis(2)).unwrap();
    let longest = Duration::from_secs(60);
    let start = std::time::Instant::now();
    runtime.wait(millis(2), longest).unwrap();
    assert!(start.elapsed() < longest, "it slept as if nothing waited");
    fake.world().full = false;
    runtime.poll(millis(3)).unwrap();
    assert_eq!(fake.world().sent.len(), 1);
}

#[test]
fn a_prefix_that_cannot_be_opens_nothing() {
    let fake = Fake::new("fake", OperState::Up);
    let (mut runtime, _) = runtime(&fake);
    let address = Address { address: PEER.into(), prefix_len: 33 };
    let other = Box::new(Fake::new("other", OperState::Up));
    let now = Instant::ZERO;
    let refused = runtime.attach(now, "eth1", other, &[address], Policy::default());
    assert!(matches!(refused, Err(AttachError::Config(ConfigError::BadAddress { .. }))));
    let other = Box::new(Fake::new("other", OperState::Up));
    runtime.attach(now, "eth1", other, &[], Policy::default()).expect("the name is still free");
}
