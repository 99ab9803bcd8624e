//! One instance of a verilated top.
//!
//! A port is named once, which yields a [`Port`], and is then read and written through it; storage is
//! little-endian bytes however wide the port is. Nothing happens until [`Model::eval`].

#[cfg(feature = "waves")]
use std::ffi::CString;
use std::ffi::{c_uint, c_void};
use std::path::Path;
use std::ptr::NonNull;

use tandem_verilator_runtime as runtime;
use thiserror::Error;

/// A port of a model, as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortDef {
    /// Name in the RTL.
    pub name: &'static str,
    /// Whether it is driven from outside.
    pub input: bool,
    /// Width in bits.
    pub bits: u32,
    /// Size of its storage in bytes.
    pub bytes: u32,
}

/// A verilated top that can be instantiated.
#[derive(Debug)]
pub struct ModelDef {
    /// Name in the list of models.
    pub name: &'static str,
    /// Top module.
    pub top: &'static str,
    /// Parameters and defines it was built with, as in the list.
    pub parameters: &'static str,
    /// Its ports.
    pub ports: &'static [PortDef],
    pub(crate) new: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    pub(crate) delete: unsafe extern "C" fn(*mut c_void),
    pub(crate) eval: unsafe extern "C" fn(*mut c_void) -> c_uint,
    pub(crate) port_addresses: unsafe extern "C" fn(*mut c_void, *mut *mut c_void),
    pub(crate) attach: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
}

impl ModelDef {
    /// Whether this build of the model can write waves.
    pub fn traced(&self) -> bool {
        self.attach.is_some()
    }

    /// The declaration of a port.
    pub fn port(&self, name: &str) -> Option<&PortDef> {
        self.ports.iter().find(|port| port.name == name)
    }
}

/// How a model starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelOptions {
    /// Fills all state with values drawn from this seed instead of zeros, so that what reset forgets to
    /// clear is found. The seed is never 0 inside Verilator; 0 here counts as 1.
    pub random_state: Option<u32>,
}

/// Why a call on a model failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// The top has no port of that name.
    #[error("model {model} has no port `{port}`")]
    NoPort {
        /// Model.
        model: &'static str,
        /// What was asked for.
        port: String,
    },
    /// An assertion in the RTL failed, or it said `$stop`, `$finish` or `$fatal`.
    #[error("{0}")]
    Failed(String),
    /// Waves were asked of a model that was built without.
    #[error("model {0} was built without waves: enable the feature `waves`")]
    NotTraced(&'static str),
    /// The wave file cannot be written.
    #[error("cannot write waves to {0}")]
    WaveFile(String),
}

/// A port of one kind of model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(u16);

impl Port {
    /// The port at this place in [`ModelDef::ports`].
    pub(crate) fn nth(index: u16) -> Self {
        Self(index)
    }

    /// Its place in [`ModelDef::ports`].
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

#[derive(Clone, Copy)]
struct Storage {
    at: NonNull<u8>,
    bytes: u32,
    bits: u32,
}

/// An instance.
pub struct Model {
    def: &'static ModelDef,
    model: NonNull<c_void>,
    context: NonNull<c_void>,
    storage: Box<[Storage]>,
    #[cfg(feature = "waves")]
    fst: Option<NonNull<c_void>>,
}

// SAFETY: an instance owns its C++ objects, which have no tie to a thread between calls; failures are
// noted in the thread that evaluates and are taken before `eval` returns.
unsafe impl Send for Model {}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("name", &self.def.name).finish_non_exhaustive()
    }
}

impl Model {
    /// Makes an instance; nothing has been evaluated yet.
    pub fn new(def: &'static ModelDef, options: ModelOptions) -> Result<Self, ModelError> {
        let seed = options.random_state.map_or(1, |seed| seed.max(1) & 0x7FFF_FFFF);
        let randomise = options.random_state.is_some();
        // SAFETY: plain values in, an owned object out.
        let context =
            unsafe { runtime::tandem_vl_context_new(seed, randomise.into(), def.traced().into()) };
        let Some(context) = NonNull::new(context) else {
            return Err(ModelError::Failed("no context".to_owned()));
        };
        // SAFETY: the context is alive and stays so until the model is deleted.
        let Some(model) = NonNull::new(unsafe { (def.new)(context.as_ptr()) }) else {
            // SAFETY: no model uses the context.
            unsafe { runtime::tandem_vl_context_delete(context.as_ptr()) };
            let why = runtime::take_failure().unwrap_or_else(|| "constructor failed".to_owned());
            return Err(ModelError::Failed(why));
        };
        let mut addresses = vec![std::ptr::null_mut(); def.ports.len()];
        // SAFETY: the callee writes one address for each port of this same table.
        unsafe { (def.port_addresses)(model.as_ptr(), addresses.as_mut_ptr()) };
        let storage = addresses
            .iter()
            .zip(def.ports)
            .map(|(at, port)| Storage {
                at: NonNull::new(at.cast()).expect("the address of a C++ member"),
                bytes: port.bytes,
                bits: port.bits,
            })
            .collect();
        Ok(Self {
            def,
            model,
            context,
            storage,
            #[cfg(feature = "waves")]
            fst: None,
        })
    }

    /// What this is an instance of.
    pub fn def(&self) -> &'static ModelDef {
        self.def
    }

    /// The port called `name`.
    pub fn port(&self, name: &str) -> Result<Port, ModelError> {
        match self.def.ports.iter().position(|port| port.name == name) {
            Some(index) => Ok(Port(index as u16)),
            None => Err(ModelError::NoPort { model: self.def.name, port: name.to_owned() }),
        }
    }

    /// Width of a port in bits.
    pub fn bits(&self, port: Port) -> u32 {
        self.storage[usize::from(port.0)].bits
    }

    /// Value of a port; of one wider than 64 bits, the low 64.
    #[inline]
    pub fn get(&self, port: Port) -> u64 {
        let s = self.storage[usize::from(port.0)];
        // SAFETY: `at` points to `bytes` bytes inside the live model, aligned for their width; a wide
        // port's storage is an array of u32, at least two.
        unsafe {
            match s.bytes {
                1 => s.at.as_ptr().read().into(),
                2 => s.at.cast::<u16>().read().into(),
                4 => s.at.cast::<u32>().read().into(),
                _ => s.at.cast::<u64>().read_unaligned(),
            }
        }
    }

    /// Sets a port to `value`, cut to its width; the rest of one wider than 64 bits becomes zero.
    #[inline]
    pub fn set(&mut self, port: Port, value: u64) {
        let s = self.storage[usize::from(port.0)];
        let value = if s.bits < 64 { value & ((1 << s.bits) - 1) } else { value };
        // SAFETY: as in `get`; `&mut self` excludes an evaluation.
        unsafe {
            match s.bytes {
                1 => s.at.as_ptr().write(value as u8),
                2 => s.at.cast::<u16>().write(value as u16),
                4 => s.at.cast::<u32>().write(value as u32),
                n => {
                    s.at.cast::<u64>().write_unaligned(value);
                    s.at.add(8).as_ptr().write_bytes(0, n as usize - 8);
                }
            }
        }
    }

    /// Whether a port is not zero; meant for single bits.
    #[inline]
    pub fn is_set(&self, port: Port) -> bool {
        self.get(port) != 0
    }

    /// Copies a port's low bytes into `out`, the lowest first; `out` may be shorter than the port, and
    /// what it has beyond is zeroed.
    #[inline]
    pub fn read(&self, port: Port, out: &mut [u8]) {
        let bytes = self.bytes(port);
        let len = bytes.len().min(out.len());
        out[..len].copy_from_slice(&bytes[..len]);
        out[len..].fill(0);
    }

    /// A port's storage, lowest byte first. Bits above the port's width are zero.
    #[inline]
    pub fn bytes(&self, port: Port) -> &[u8] {
        let s = self.storage[usize::from(port.0)];
        // SAFETY: as in `get`; the storage does not change while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(s.at.as_ptr(), s.bytes as usize) }
    }

    /// Sets a port's low bytes from `value`, the lowest first, and the rest to zero. Bits beyond the
    /// port's width are dropped.
    #[inline]
    pub fn write(&mut self, port: Port, value: &[u8]) {
        let s = self.storage[usize::from(port.0)];
        // SAFETY: as in `get`; `&mut self` excludes any other access.
        let out = unsafe { std::slice::from_raw_parts_mut(s.at.as_ptr(), s.bytes as usize) };
        let whole = s.bits.div_ceil(8) as usize;
        let len = value.len().min(whole);
        out[..len].copy_from_slice(&value[..len]);
        out[len..].fill(0);
        if !s.bits.is_multiple_of(8) {
            out[whole - 1] &= (1 << (s.bits % 8)) - 1;
        }
    }

    /// Settles the model after inputs have changed.
    #[inline]
    pub fn eval(&mut self) -> Result<(), ModelError> {
        // SAFETY: the model is alive and nobody else uses it.
        if unsafe { (self.def.eval)(self.model.as_ptr()) } == 0 {
            return Ok(());
        }
        Err(failed())
    }

    /// Sets the simulated time in nanoseconds, which assertions print and waves carry.
    pub fn set_time(&mut self, time_ns: u64) {
        // SAFETY: the context is alive.
        unsafe { runtime::tandem_vl_context_time(self.context.as_ptr(), time_ns) }
    }
}

#[cold]
fn failed() -> ModelError {
    ModelError::Failed(runtime::take_failure().unwrap_or_else(|| "no reason given".to_owned()))
}

/// Waves. Only models whose [`ModelDef::traced`] is true can write them.
#[cfg(feature = "waves")]
impl Model {
    /// Starts to write waves to `path`; nothing is written before [`Model::dump`].
    pub fn open_waves(&mut self, path: &Path) -> Result<(), ModelError> {
        let attach = self.def.attach.ok_or(ModelError::NotTraced(self.def.name))?;
        let shown = || path.display().to_string();
        let name = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| ModelError::WaveFile(shown()))?;
        self.close_waves();
        let fst = NonNull::new(runtime::tandem_vl_fst_new())
            .ok_or_else(|| ModelError::WaveFile(shown()))?;
        // SAFETY: model and writer are alive, and attaching comes before opening.
        let opened = unsafe {
            attach(self.model.as_ptr(), fst.as_ptr());
            runtime::tandem_vl_fst_open(fst.as_ptr(), name.as_ptr())
        };
        self.fst = Some(fst);
        if opened == 0 {
            self.close_waves();
            return Err(ModelError::WaveFile(shown()));
        }
        Ok(())
    }

    /// Writes the present values as those at `time_ns`; does nothing when no file is open.
    pub fn dump(&mut self, time_ns: u64) {
        if let Some(fst) = self.fst {
            // SAFETY: the writer is alive.
            unsafe { runtime::tandem_vl_fst_dump(fst.as_ptr(), time_ns) }
        }
    }

    /// Closes the wave file, if one is open.
    pub fn close_waves(&mut self) {
        if let Some(fst) = self.fst.take() {
            // SAFETY: the writer is alive and is not used again.
            unsafe { runtime::tandem_vl_fst_delete(fst.as_ptr()) }
        }
    }
}

/// Waves, in a build without them.
#[cfg(not(feature = "waves"))]
impl Model {
    /// Always fails: this build of the crate has no waves.
    pub fn open_waves(&mut self, _path: &Path) -> Result<(), ModelError> {
        Err(ModelError::NotTraced(self.def.name))
    }

    /// Does nothing.
    pub fn dump(&mut self, _time_ns: u64) {}

    /// Does nothing.
    pub fn close_waves(&mut self) {}
}

impl Drop for Model {
    fn drop(&mut self) {
        self.close_waves();
        // SAFETY: the model is not used again, and goes before its context.
        unsafe {
            (self.def.delete)(self.model.as_ptr());
            runtime::tandem_vl_context_delete(self.context.as_ptr());
        }
    }
}
