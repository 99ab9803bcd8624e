//! What the block benches share: a clocked model, a random source, and sums done the slow way.

#![allow(dead_code, unreachable_pub, missing_docs)] // Each bench uses its part.

use tandem_rtl_bindings::{Model, ModelDef, ModelOptions, Port};

/// A model with a clock. A cycle is: set inputs, [`Bench::settle`], look at outputs, [`Bench::edge`].
pub struct Bench {
    model: Model,
    clk: Port,
    cycle: u64,
}

impl Bench {
    /// Makes the model with random initial state and resets it for four cycles.
    pub fn new(def: &'static ModelDef, seed: u64) -> Self {
        let options = ModelOptions { random_state: Some(seed as u32 | 1) };
        let mut model = Model::new(def, options).expect("the model exists");
        for input in def.ports.iter().filter(|port| port.input) {
            let port = model.port(input.name).expect("it is in the table");
            model.set(port, 0);
        }
        let clk = model.port("clk_i").expect("it has a clock");
        let mut bench = Self { model, clk, cycle: 0 };
        let reset = bench.port("rst_ni");
        bench.set(reset, 0);
        for _ in 0..4 {
            bench.settle();
            bench.edge();
        }
        bench.set(reset, 1);
        bench
    }

    pub fn port(&self, name: &str) -> Port {
        self.model.port(name).expect("the port exists")
    }

    pub fn set(&mut self, port: Port, value: u64) {
        self.model.set(port, value);
    }

    pub fn write(&mut self, port: Port, value: &[u8]) {
        self.model.write(port, value);
    }

    pub fn get(&self, port: Port) -> u64 {
        self.model.get(port)
    }

    pub fn is_set(&self, port: Port) -> bool {
        self.model.is_set(port)
    }

    pub fn bytes(&self, port: Port) -> &[u8] {
        self.model.bytes(port)
    }

    pub fn bits(&self, port: Port) -> usize {
        self.model.bits(port) as usize
    }

    pub fn now(&self) -> u64 {
        self.cycle
    }

    pub fn settle(&mut self) {
        self.model.set(self.clk, 0);
        self.model.set_time(2 * self.cycle);
        self.eval();
    }

    pub fn edge(&mut self) {
        self.model.set(self.clk, 1);
        self.model.set_time(2 * self.cycle + 1);
        self.eval();
        self.cycle += 1;
    }

    fn eval(&mut self) {
        if let Err(e) = self.model.eval() {
            panic!("cycle {}: {e}", self.cycle);
        }
    }
}

/// The seed of a test: `TANDEM_SEED`, else always the same one. Says how to repeat the run.
pub fn seed(test: &str) -> u64 {
    let seed = std::env::var("TANDEM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    println!("seed {seed}; repeat: TANDEM_SEED={seed} cargo test -p tandem-rtl-bindings {test}");
    seed
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for stimuli, and the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// How willing one side of a stream is; the mood changes every so often.
pub struct Mood {
    percent: usize,
    left: usize,
    always: bool,
}

impl Mood {
    /// Always willing, or moody.
    pub fn new(always: bool) -> Self {
        Self { percent: 100, left: 0, always }
    }

    pub fn willing(&mut self, rng: &mut Rng) -> bool {
        if self.always {
            return true;
        }
        if self.left == 0 {
            self.left = rng.between(20, 400);
            self.percent = rng.pick(&[100, 100, 90, 50, 10]);
        }
        self.left -= 1;
        self.percent == 100 || rng.chance(self.percent)
    }
}

/// RFC 1071, one word at a time with the carry taken round at once.
pub fn ones_sum(mut sum: u16, bytes: &[u8]) -> u16 {
    for pair in bytes.chunks(2) {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (low, carry) = sum.overflowing_add(word);
        sum = low + u16::from(carry);
    }
    sum
}

/// Lanes of a beat that hold `count` bytes, as the port's bytes.
pub fn keep(count: usize) -> [u8; 8] {
    if count == 64 { [0xFF; 8] } else { ((1u64 << count) - 1).to_le_bytes() }
}

/// How many lanes a keep port's bytes select; they must be contiguous from lane 0.
pub fn kept(bits: u64) -> usize {
    assert_eq!(bits & bits.wrapping_add(1), 0, "keep {bits:#x} has a hole");
    bits.count_ones() as usize
}
