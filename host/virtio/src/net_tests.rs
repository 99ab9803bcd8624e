//! The whole driver against the model of a function in `testing`.

use proptest::prelude::*;
use tandem_device::{Batch, Csum, Frame, FrameMeta, Gso, GsoKind, PoolConfig, TransmitOutcome};

use super::*;
use crate::Width;
use crate::testing::{Fault, Function, Offer};

const SPLIT: Features = Features::all().difference(Features::RING_PACKED);

fn pool() -> Pool {
    Pool::new(PoolConfig::frames(1024)).unwrap()
}

fn probe(function: &Arc<Function>, pool: &Pool, config: VirtioConfig) -> VirtioNet {
    VirtioNet::probe(function.clone(), pool.clone(), config).unwrap()
}

fn open(
    function: &Arc<Function>,
    pool: &Pool,
    config: VirtioConfig,
) -> (VirtioNet, Box<dyn Queue>) {
    let mut net = probe(function, pool, config);
    net.open().unwrap();
    let queue = net.take_queue(0).unwrap();
    (net, queue)
}

fn frame(pool: &Pool, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().unwrap();
    frame.append(bytes).unwrap();
    frame
}

fn ethernet(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| if i < 12 { 2 } else { (i as u8).wrapping_add(seed) }).collect()
}

fn header(flags: u8, gso_type: u8, gso_size: u16, csum: (u16, u16)) -> Vec<u8> {
    let mut bytes = vec![flags, gso_type, 0, 0];
    for field in [gso_size, csum.0, csum.1, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

#[test]
fn what_is_offered_is_taken_and_facts_are_read() {
    let function = Function::new(Offer { mtu: 9000, ..Offer::default() });
    let big = Pool::new(PoolConfig { buffers: 512, buffer_len: 4096, headroom: 128 }).unwrap();
    let (mut net, _queue) = open(&function, &big, VirtioConfig::default());
    assert_eq!(function.lock().accepted, Features::all().bits());
    // ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, each added to those before (3.1.1)
    assert_eq!(function.lock().statuses, [0, 1, 3, 0, 0, 1, 3, 11, 15]);
    let info = net.info();
    assert_eq!(info.mac, MacAddr([2, 0, 0, 0, 0, 0x42]));
    assert_eq!((info.mtu, info.speed_mbit_s), (9000, Some(25_000)));
    assert!(info.flags.contains(DeviceFlags::UP));
    let caps = net.caps();
    assert!(caps.tx.contains(TxOffloads::CSUM | TxOffloads::TSO4 | TxOffloads::USO));
    assert!(caps.rx.contains(RxOffloads::GRO6));
    assert_eq!((caps.frame_len_max, caps.headroom, caps.pieces_max), (9018, 12, 18));
    assert_eq!(net.oper_state(), OperState::Up);
    assert!(net.take_queue(0).is_err() && net.take_queue(1).is_err());
    assert!(net.set_mac(MacAddr::ZERO).is_err());
    assert!(net.set_receive_mode(ReceiveMode::Promiscuous).is_err());
    assert!(net.set_mtu(9001).is_err() && net.set_mtu(1500).is_ok());
}

#[test]
fn coalescing_is_not_asked_for_where_it_does_not_fit() {
    let function = Function::new(Offer::default());
    let (net, _queue) = open(&function, &pool(), VirtioConfig::default());
    assert!(!net.features().intersects(Features::GRO), "18 buffers of 1920 bytes are no 64 KiB");
    assert!(net.features().contains(Features::HOST_TSO4));
}

#[test]
fn the_mask_forces_work_into_software() {
    let function = Function::new(Offer::default());
    let features = Features::all() - Features::CSUM;
    let config = VirtioConfig { features, ..VirtioConfig::default() };
    let (net, _queue) = open(&function, &pool(), config);
    assert_eq!(net.caps().tx, TxOffloads::empty());
    assert!(!Features::from_bits_retain(function.lock().accepted).intersects(Features::TSO));
}

#[test]
fn failures_of_setup_are_told_and_marked() {
    let attempt = |offer: Offer, fault: Option<Fault>| {
        let function = Function::new(offer);
        let net = VirtioNet::probe(function.clone(), pool(), VirtioConfig::default());
        function.lock().fault = fault;
        let error = match net {
            Ok(mut net) => net.open().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        let status = function.lock().status;
        (error, status & 128 != 0)
    };
    let offer = Offer::default();
    let (error, failed) = attempt(offer, Some(Fault::RefuseFeatures));
    assert!(error.contains("refused the features") && failed, "{error}");
    let (error, failed) = attempt(offer, Some(Fault::Unstable));
    assert!(error.contains("does not come to rest") && failed, "{error}");
    let (error, failed) = attempt(offer, Some(Fault::NoVectors));
    assert!(error.contains("config_msix_vector of 65535 is invalid") && failed, "{error}");
    let (error, _) = attempt(offer, Some(Fault::ResetStuck));
    assert!(error.contains("did not finish its reset"), "{error}");
    let (error, _) = attempt(offer, Some(Fault::Ones));
    assert!(error.contains("is gone: registers read as all ones"), "{error}");
    let old = Offer { features: Features::all() - Features::VERSION_1, ..offer };
    let (error, failed) = attempt(old, None);
    assert!(error.contains("does not offer Features(VERSION_1)") && failed, "{error}");
    let long = Offer { mtu: 9000, features: Features::all() - Features::MRG_RXBUF, ..offer };
    let (error, failed) = attempt(long, None);
    assert_eq!(error, "receive buffers of 1920 bytes, 9030 are needed");
    assert!(failed);
}

#[test]
fn transmit_puts_the_header_in_front() {
    for features in [Features::all(), SPLIT] {
        let function = Function::new(Offer { features, ..Offer::default() });
        let pool = pool();
        let payload_pool = Pool::new(PoolConfig::payload(4)).unwrap();
        let (net, mut queue) = open(&function, &pool, VirtioConfig::default());
        let mut batch = Batch::new();

        let mut plain = frame(&pool, &ethernet(60, 1));
        plain.meta_mut().csum = Csum::Partial { start: 34, offset: 16 };
        plain.meta_mut().token = Some(7);
        batch.push_back(plain);

        // A super-segment with payload by reference from a pool that the device has not seen.
        let mut filler = payload_pool.filler().unwrap();
        filler.write(&[0xAB; 5000]);
        let mut long = frame(&pool, &ethernet(54, 2));
        long.push_payload(filler.payload(0..5000)).unwrap();
        *long.meta_mut() = FrameMeta {
            csum: Csum::Partial { start: 34, offset: 16 },
            gso: Some(Gso { kind: GsoKind::Tcp4, size: 1000, ecn: true, fixed_id: false }),
            header_len: 54,
            segments: 5,
            ..FrameMeta::default()
        };
        batch.push_back(long);

        // No room for the header in front.
        let mut bare = pool.alloc().unwrap();
        bare.reserve_headroom(0);
        bare.append(&ethernet(70, 3)).unwrap();
        batch.push_back(bare);

        function.lock().doorbells.clear();
        let outcome = queue.transmit(&mut batch).unwrap();
        assert_eq!(outcome, TransmitOutcome { taken: 3, full: false });
        assert_eq!(queue.in_flight(), 3);
        let doorbells = function.lock().doorbells.clone();
        let packed = features.contains(Features::RING_PACKED);
        // Queue 1; packed: slot 5 in the first pass, split: index 3.
        assert_eq!(doorbells, [1 | if packed { 0x8005 } else { 3 } << 16]);
        function.run();
        assert_eq!(function.lock().chain_lens, [1, 2, 2]);

        let out = std::mem::take(&mut function.lock().wire_out);
        assert_eq!(out[0], (vec![1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0], ethernet(60, 1)));
        assert_eq!(out[1].0, [1, 0x81, 54, 0, 0xE8, 3, 34, 0, 16, 0, 0, 0]);
        assert_eq!(out[1].1, [ethernet(54, 2), vec![0xAB; 5000]].concat());
        assert_eq!(out[2], (vec![0; 12], ethernet(70, 3)));

        let mut tokens = Vec::new();
        queue.completed(&mut tokens).unwrap();
        assert_eq!((tokens, queue.in_flight()), (vec![7], 0));
        let stats = queue.stats();
        assert_eq!((stats.tx_packets, stats.tx_bytes, stats.tx_csum), (7, 60 + 5054 + 70, 2));
        assert_eq!(net.stats().tx_packets, 7);
        assert_eq!(payload_pool.stats().free, 3, "the filler has one, the ring none");
    }
}

#[test]
fn what_cannot_be_carried_is_dropped_and_its_token_given_back() {
    let function = Function::new(Offer { queue_size_max: 4, ..Offer::default() });
    let pool = pool();
    let (net, mut queue) = open(&function, &pool, VirtioConfig::default());
    assert_eq!(net.caps().pieces_max, 3);
    let mut batch = Batch::new();
    let mut spoil = |change: &dyn Fn(&mut Frame)| {
        let mut frame = frame(&pool, &ethernet(60, 1));
        change(&mut frame);
        frame.meta_mut().token = Some(1);
        batch.push_back(frame);
    };
    spoil(&|frame| frame.meta_mut().vlan = Some(3));
    spoil(&|frame| frame.truncate(13));
    spoil(&|frame| frame.append(&[0; 1500]).unwrap());
    spoil(&|frame| frame.meta_mut().csum = Csum::Partial { start: 50, offset: 9 });
    batch.push_back(frame(&pool, &ethernet(60, 1)));
    assert_eq!(queue.transmit(&mut batch).unwrap(), TransmitOutcome { taken: 5, full: false });
    assert_eq!((queue.stats().tx_dropped, queue.in_flight()), (4, 1));
    let mut tokens = Vec::new();
    queue.completed(&mut tokens).unwrap();
    assert_eq!(tokens, [1; 4]);
}

#[test]
fn a_full_ring_leaves_frames_in_the_batch() {
    for features in [Features::all(), SPLIT, Features::all() - Features::IN_ORDER] {
        let function = Function::new(Offer { features, queue_size_max: 4, ..Offer::default() });
        let pool = pool();
        let (_net, mut queue) = open(&function, &pool, VirtioConfig::default());
        let mut batch: Batch = (0..10).map(|i| frame(&pool, &ethernet(60, i))).collect();
        assert_eq!(queue.transmit(&mut batch).unwrap(), TransmitOutcome { taken: 4, full: true });
        assert_eq!(queue.transmit(&mut batch).unwrap(), TransmitOutcome { taken: 0, full: true });
        function.run();
        assert_eq!(queue.transmit(&mut batch).unwrap(), TransmitOutcome { taken: 4, full: true });
        function.run();
        assert_eq!(queue.transmit(&mut batch).unwrap(), TransmitOutcome { taken: 2, full: false });
        function.run();
        let out = std::mem::take(&mut function.lock().wire_out);
        let frames: Vec<_> = out.into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(frames, (0..10).map(|i| ethernet(60, i)).collect::<Vec<_>>());
    }
}

#[test]
fn receive_reads_the_header_and_joins_buffers() {
    for features in [Features::all(), SPLIT] {
        let function = Function::new(Offer { features, ..Offer::default() });
        let pool = Pool::new(PoolConfig { buffers: 600, buffer_len: 4096, headroom: 64 }).unwrap();
        let (_net, mut queue) = open(&function, &pool, VirtioConfig::default());
        {
            let mut state = function.lock();
            state.wire_in.push_back((header(2, 0, 0, (0, 0)), ethernet(60, 1)));
            state.wire_in.push_back((header(1, 0, 0, (34, 6)), ethernet(100, 2)));
            // 9000 bytes over three buffers of 4032
            state.wire_in.push_back((header(0, 0, 0, (0, 0)), ethernet(9000, 3)));
            // Bad: checksum outside, reserved segmentation, shorter than an Ethernet header.
            state.wire_in.push_back((header(1, 0, 0, (60, 0)), ethernet(60, 4)));
            state.wire_in.push_back((header(0, 2, 9, (0, 0)), ethernet(60, 4)));
            state.wire_in.push_back((header(0, 0, 0, (0, 0)), ethernet(13, 4)));
            state.wire_in.push_back((header(0, 4, 1448, (0, 0)), ethernet(60_000, 5)));
        }
        function.run();
        let mut batch = Batch::new();
        assert_eq!(queue.receive(2, &mut batch).unwrap(), 2);
        assert_eq!(queue.receive(100, &mut batch).unwrap(), 2);
        let frames: Vec<_> = batch.iter().map(Frame::to_vec).collect();
        let lens = [(60, 1), (100, 2), (9000, 3), (60_000, 5)];
        assert_eq!(frames, lens.map(|(len, seed)| ethernet(len, seed)));
        assert_eq!(batch[0].meta().csum, Csum::Valid);
        assert_eq!(batch[1].meta().csum, Csum::Partial { start: 34, offset: 6 });
        assert_eq!(batch[2].piece_count(), 3);
        let gso = batch[3].meta().gso.unwrap();
        assert_eq!((gso.kind, gso.size, batch[3].piece_count()), (GsoKind::Tcp6, 1448, 15));
        let identity = batch[2].meta().identity.unwrap();
        assert_eq!((identity.queue, identity.slot, identity.wrap), (0, 2, true));
        assert_eq!(batch[0].headroom(), 64 + 12);
        let stats = queue.stats();
        assert_eq!((stats.rx_errors, stats.rx_bytes, stats.rx_csum_valid), (3, 69_160, 1));
        let before = pool.stats().free;
        batch.clear();
        assert_eq!(pool.stats().free, before + 1 + 1 + 3 + 15);
    }
}

#[test]
fn too_many_buffers_for_one_frame_are_passed_over() {
    let function = Function::new(Offer::default());
    let (_net, mut queue) = open(&function, &pool(), VirtioConfig::default());
    // The model fills in num_buffers only where it is 0: here the device lies, 19 buffers.
    let mut lie = header(0, 0, 0, (0, 0));
    lie[10] = 19;
    function.lock().wire_in.push_back((lie, ethernet(60, 1)));
    for i in 0..18 {
        function.lock().wire_in.push_back((header(0, 0, 0, (0, 0)), ethernet(60, i)));
    }
    function.lock().wire_in.push_back((header(0, 0, 0, (0, 0)), ethernet(61, 9)));
    function.run();
    let mut batch = Batch::new();
    assert_eq!(queue.receive(100, &mut batch).unwrap(), 1);
    assert_eq!((batch[0].len(), queue.stats().rx_errors), (61, 1));
}

#[test]
fn arming_wakes_for_frames_completions_and_link() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    for features in [Features::all(), SPLIT, Features::all() - Features::EVENT_IDX] {
        let function = Function::new(Offer { features, ..Offer::default() });
        let pool = pool();
        let (mut net, mut queue) = open(&function, &pool, VirtioConfig::default());
        let readable = |queue: &dyn Queue| {
            let handle = queue.wait_handle().unwrap();
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&none)).unwrap() == 1
        };
        let arrive = |seed| {
            function.lock().wire_in.push_back((header(0, 0, 0, (0, 0)), ethernet(60, seed)));
            function.run();
        };
        let mut batch = Batch::new();
        // Not armed: silence.
        arrive(1);
        assert!(!readable(&*queue));
        assert!(!queue.arm().unwrap(), "there is a frame");
        assert_eq!(queue.receive(9, &mut batch).unwrap(), 1);
        assert!(queue.arm().unwrap());
        assert!(!readable(&*queue));
        arrive(2);
        assert!(readable(&*queue));
        assert_eq!(queue.receive(9, &mut batch).unwrap(), 1);
        assert!(queue.arm().unwrap());
        assert!(!readable(&*queue), "arming takes the old event");
        assert_eq!(queue.stats().interrupts, 1);

        queue.transmit(&mut Batch::from([frame(&pool, &ethernet(60, 3))])).unwrap();
        assert!(queue.arm().unwrap());
        function.run();
        assert!(readable(&*queue), "a completion wakes too");
        assert_eq!(queue.in_flight(), 1);
        assert!(queue.arm().unwrap(), "arming takes completed frames back");
        assert_eq!(queue.in_flight(), 0);

        function.set_link(false);
        assert!(readable(&*queue));
        assert!(queue.arm().unwrap());
        assert_eq!(net.oper_state(), OperState::Dormant);
        function.set_link(true);
        assert_eq!(net.oper_state(), OperState::Up);

        function.need_reset();
        assert!(readable(&*queue));
        assert!(matches!(queue.arm(), Err(DeviceError::NeedsReset { .. })));
        assert!(matches!(queue.receive(1, &mut batch), Err(DeviceError::NeedsReset { .. })));
        assert_eq!(net.oper_state(), OperState::Down);
        // And back to life.
        drop(queue);
        net.close().unwrap();
        net.open().unwrap();
        let mut queue = net.take_queue(0).unwrap();
        arrive(3);
        assert_eq!(queue.receive(9, &mut batch).unwrap(), 1);
    }
}

#[test]
fn fewer_vectors_and_none_work_too() {
    for vectors in [0, 1] {
        let function = Function::new(Offer { vectors, ..Offer::default() });
        let (mut net, mut queue) = open(&function, &pool(), VirtioConfig::default());
        assert_eq!(queue.wait_handle().is_some(), vectors == 1);
        assert!(queue.arm().unwrap());
        function.set_link(false);
        assert_eq!(net.oper_state(), OperState::Dormant);
        function.need_reset();
        assert!(queue.arm().is_err());
    }
}

#[test]
fn a_pulled_device_keeps_its_buffers_until_they_are_unmapped() {
    for fault in [Fault::Gone, Fault::Ones] {
        let function = Function::new(Offer::default());
        let pool = pool();
        let (mut net, mut queue) = open(&function, &pool, VirtioConfig::default());
        assert_eq!(pool.stats().free, 1024 - 256);
        queue.transmit(&mut Batch::from([frame(&pool, &ethernet(60, 3))])).unwrap();
        function.pull(fault);
        // All ones: no interrupt is pending either; polling finds out in the end.
        function.set_link(false);
        let error = queue.arm().unwrap_err();
        assert!(matches!(error, DeviceError::Gone { .. }), "{error}");
        let mut batch = Batch::from([frame(&pool, &ethernet(60, 3))]);
        assert!(queue.transmit(&mut batch).is_err());
        assert_eq!(batch.len(), 1, "what was not taken stays");
        drop(batch);
        let session = net.session.clone().unwrap();
        drop(queue);
        assert_eq!(session.buried(), 257);
        assert_eq!(pool.stats().free, 1024 - 257);

        function.lock().unmap_fails = true;
        assert!(net.close().is_err());
        assert_eq!(pool.stats().free, 1024 - 257, "still mapped: still the device's");
        function.lock().unmap_fails = false;
        net.close().unwrap();
        assert_eq!(pool.stats().free, 1024);
        assert_eq!(function.lock().memory.mapped(), 0);
        assert!(matches!(net.open(), Err(DeviceError::Gone { .. })));
    }
}

#[test]
fn polling_alone_notices_a_removal() {
    let function = Function::new(Offer::default());
    let (_net, mut queue) = open(&function, &pool(), VirtioConfig::default());
    function.pull(Fault::Gone);
    let polls = (0..1000).take_while(|_| queue.receive(9, &mut Batch::new()).is_ok()).count();
    assert!(polls < 300, "{polls}");
}

#[test]
fn closing_frees_what_a_queue_elsewhere_holds() {
    let function = Function::new(Offer::default());
    let pool = pool();
    let (mut net, mut queue) = open(&function, &pool, VirtioConfig::default());
    net.close().unwrap();
    assert_eq!(function.lock().status, 0);
    assert!(matches!(queue.receive(1, &mut Batch::new()), Err(DeviceError::Gone { .. })));
    assert_eq!(pool.stats().free, 1024);
    // The old queue does no harm to the next life.
    net.open().unwrap();
    assert!(queue.receive(1, &mut Batch::new()).is_err());
    drop(queue);
    drop(net);
    assert_eq!(pool.stats().free, 1024);
}

#[test]
fn an_empty_pool_is_refilled_from_when_it_can_be() {
    let function = Function::new(Offer::default());
    let pool = Pool::new(PoolConfig::frames(8)).unwrap();
    let (_net, mut queue) = open(&function, &pool, VirtioConfig::default());
    let mut batch = Batch::new();
    for seed in 0..8 {
        function.lock().wire_in.push_back((header(0, 0, 0, (0, 0)), ethernet(60, seed)));
    }
    function.run();
    assert_eq!(queue.receive(100, &mut batch).unwrap(), 8);
    assert!(!queue.arm().unwrap(), "no buffer on the ring: nothing could wake us");
    batch.clear();
    assert!(queue.arm().unwrap());
    function.lock().wire_in.push_back((header(0, 0, 0, (0, 0)), ethernet(60, 9)));
    function.run();
    assert_eq!(queue.receive(100, &mut batch).unwrap(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Traffic both ways over every kind of ring and size, batches and wraps: nothing lost, nothing
    /// changed, nothing out of order, no buffer leaked.
    #[test]
    fn traffic_survives_every_ring(
        packed in any::<bool>(), in_order in any::<bool>(), event_idx in any::<bool>(),
        notification_data in any::<bool>(), mergeable in any::<bool>(), batches in any::<bool>(),
        rx in 1u16..40, tx in 1u16..40,
        rounds in proptest::collection::vec((0usize..12, 0usize..12, 14usize..1500, any::<bool>()), 1..40),
    ) {
        let mut features = Features::all();
        features.set(Features::RING_PACKED, packed);
        features.set(Features::IN_ORDER, in_order);
        features.set(Features::EVENT_IDX, event_idx);
        features.set(Features::NOTIFICATION_DATA, notification_data);
        features.set(Features::MRG_RXBUF, mergeable);
        let queue_size_max = if packed { 63 } else { 64 };
        let function = Function::new(Offer {
            features, queue_size_max, batches: batches && in_order, ..Offer::default()
        });
        function.eager.set(()).unwrap();
        let pool = pool();
        let config = VirtioConfig { queue_lens: QueueLens { rx, tx }, ..VirtioConfig::default() };
        let (mut net, mut queue) = open(&function, &pool, config);
        let (mut sent, mut arrived) = (Vec::new(), Vec::new());
        let (mut waiting, mut got) = (Batch::new(), Batch::new());
        for (outs, ins, len, arm) in rounds {
            for i in 0..outs {
                let bytes = ethernet(len, i as u8);
                waiting.push_back(frame(&pool, &bytes));
                sent.push(bytes);
            }
            for i in 0..ins {
                let bytes = ethernet(len, !(i as u8));
                function.lock().wire_in.push_back((header(0, 0, 0, (0, 0)), bytes.clone()));
                arrived.push(bytes);
            }
            queue.transmit(&mut waiting).unwrap();
            function.run();
            queue.receive(64, &mut got).unwrap();
            queue.completed(&mut Vec::new()).unwrap();
            if arm {
                queue.arm().unwrap();
            }
        }
        for _ in 0..2000 {
            if waiting.is_empty() && got.len() == arrived.len() {
                break;
            }
            queue.transmit(&mut waiting).unwrap();
            function.run();
            queue.receive(64, &mut got).unwrap();
        }
        function.run();
        let out: Vec<_> = function.lock().wire_out.drain(..).map(|(_, frame)| frame).collect();
        prop_assert_eq!(out, sent);
        let got: Vec<_> = got.drain(..).map(|frame| frame.to_vec()).collect();
        prop_assert_eq!(got, arrived);
        drop(queue);
        net.close().unwrap();
        prop_assert_eq!(pool.stats().free, 1024);
    }
}

/// A function whose registers say anything.
struct Noisy {
    inner: Arc<Function>,
    /// Which reads to falsify, and with what; used round and round.
    noise: Vec<(u8, u64)>,
    reads: std::sync::atomic::AtomicUsize,
}

impl Noisy {
    fn disturb(&self, value: u64, width: Width) -> u64 {
        let at = self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match self.noise[at % self.noise.len()] {
            (0, noise) => noise & width.ones(),
            (1, noise) => value ^ 1 << (noise % (8 * u64::from(width.bytes()))),
            _ => value,
        }
    }
}

impl PciTransport for Noisy {
    fn name(&self) -> &str {
        "noisy"
    }
    fn config_read(&self, offset: u16, width: Width) -> Result<u32, TransportError> {
        Ok(self.disturb(self.inner.config_read(offset, width)?.into(), width) as u32)
    }
    fn config_write(&self, _: u16, _: Width, _: u32) -> Result<(), TransportError> {
        Ok(())
    }
    fn bar_len(&self, bar: u8) -> Option<u64> {
        self.inner.bar_len(bar)
    }
    fn bar_read(&self, bar: u8, offset: u64, width: Width) -> Result<u64, TransportError> {
        // A block may have been placed over another; the model knows each register by its own width only.
        let value = match (offset, width) {
            (4, Width::Word)
            | (0x10 | 0x12 | 0x18 | 0x1A | 0x1C | 0x1E, Width::Half)
            | (0x14 | 0x15, Width::Byte) => self.inner.bar_read(bar, offset, width)?,
            (0x2000..0x2014, Width::Byte | Width::Half | Width::Word) => {
                self.inner.bar_read(bar, offset, width)?
            }
            _ => 0,
        };
        Ok(self.disturb(value, width))
    }
    fn bar_write(&self, _: u8, offset: u64, _: Width, value: u64) -> Result<(), TransportError> {
        // The model insists on a sane driver, which this one no longer can be; its status suffices.
        if offset == 0x14 {
            self.inner.lock().status = value as u8;
        }
        Ok(())
    }
    fn dma_map(&self, region: &Arc<tandem_device::Region>) -> Result<u64, tandem_device::DmaError> {
        self.inner.dma_map(region)
    }
    fn dma_unmap(&self, region: tandem_device::RegionId) -> Result<(), tandem_device::DmaError> {
        self.inner.dma_unmap(region)
    }
    fn vectors(&self) -> u16 {
        3
    }
    fn enable_vectors(&self, count: u16) -> Result<(), TransportError> {
        self.inner.enable_vectors(count)
    }
    fn interrupt_pending(&self, vector: u16) -> Result<bool, TransportError> {
        self.inner.interrupt_pending(vector)
    }
    fn interrupt_fd(&self, _: u16) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
    fn reset_function(&self) -> Result<(), TransportError> {
        Ok(())
    }
    fn pause(&self) {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Registers and configuration space say anything at any time: setup ends, one way or the other, and
    /// no buffer is lost.
    #[test]
    fn noisy_registers_never_hang_setup(
        noise in proptest::collection::vec((0u8..40, any::<u64>()), 1..120),
    ) {
        let inner = Function::new(Offer::default());
        let noisy = Noisy { inner, noise, reads: Default::default() };
        let pool = pool();
        if let Ok(mut net) =
            VirtioNet::probe(Arc::new(noisy), pool.clone(), VirtioConfig::default())
        {
            if net.open().is_ok() {
                let mut queue = net.take_queue(0).unwrap();
                let _ = queue.arm();
                let _ = queue.receive(9, &mut Batch::new());
                let _ = queue.transmit(&mut Batch::from([frame(&pool, &ethernet(60, 1))]));
                net.oper_state();
            }
            let _ = net.close();
        }
        prop_assert_eq!(pool.stats().free, 1024);
    }

    /// Any header before any frame, any number of buffers claimed: frames are delivered or counted, what is
    /// delivered is consistent, and the buffers come back.
    #[test]
    fn hostile_receive_headers_are_judged(
        packed in any::<bool>(),
        frames in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 12), 0usize..4000, 0u8..24), 1..60),
    ) {
        let features = if packed { Features::all() } else { SPLIT };
        let function = Function::new(Offer { features, ..Offer::default() });
        let pool = pool();
        let (mut net, mut queue) = open(&function, &pool, VirtioConfig::default());
        for (mut header, len, buffers) in frames {
            // Often honest in this one field, or nothing would come through.
            header[10] = if buffers < 20 { buffers } else { header[10] };
            header[11] = if buffers == 23 { header[11] } else { 0 };
            function.lock().wire_in.push_back((header, ethernet(len, buffers)));
            function.run();
            let mut batch = Batch::new();
            if queue.receive(64, &mut batch).is_err() {
                break;
            }
            for frame in batch {
                if let Csum::Partial { start, offset } = frame.meta().csum {
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= frame.len());
                }
                prop_assert!(frame.head().len() >= 14 && frame.piece_count() <= RX_BUFFERS_MAX);
            }
        }
        drop(queue);
        net.close().unwrap();
        prop_assert_eq!(pool.stats().free, 1024);
    }
}
