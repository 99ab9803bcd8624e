//! The interrupts of the device: which are armed, masked, pending.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno, read, write};

use crate::message::{IrqFlags, IrqSet, IrqSetFlags};

/// Most interrupts of one type: what an MSI-X table can hold.
pub const VECTORS_MAX: u32 = 2048;

/// An interrupt type of a device (INTx, MSI, MSI-X, error, request).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IrqType {
    /// Number of interrupts, at most [`VECTORS_MAX`]; 0 when the device has none of the type.
    pub count: u32,
    /// Its properties.
    pub flags: IrqFlags,
}

/// What the client has done to interrupts `start .. start + count` of type `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqChange {
    /// Interrupt type.
    pub index: u32,
    /// First interrupt.
    pub start: u32,
    /// Number of interrupts.
    pub count: u32,
    /// What was done.
    pub action: IrqAction,
}

/// What a client can do to an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqAction {
    /// Gave an eventfd.
    Arm,
    /// Took the eventfd away.
    Disarm,
    /// Masked it.
    Mask,
    /// Unmasked it.
    Unmask,
    /// Triggered it, as if the device had.
    Trigger,
}

/// What became of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Triggered {
    /// The eventfd was written.
    Signalled,
    /// It is masked and now pending.
    Pending,
    /// The client gave no eventfd for it: nobody was told.
    Unarmed,
    /// There is no such interrupt.
    NoSuch,
}

#[derive(Debug)]
struct EventFd {
    fd: OwnedFd,
    blocking: bool,
}

impl EventFd {
    /// Takes a descriptor of the client's that can be written like an eventfd.
    fn new(fd: OwnedFd) -> Result<Self, Errno> {
        // A pipe or a terminal would let the client stop the server by not reading.
        let kind = FileType::from_raw_mode(fstat(&fd)?.st_mode);
        if matches!(
            kind,
            FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Directory
        ) {
            return Err(Errno::INVAL);
        }
        let blocking = !fcntl_getfl(&fd)?.contains(OFlags::NONBLOCK);
        Ok(Self { fd, blocking })
    }

    fn signal(&self) {
        // An eventfd that is at its maximum already tells what there is to tell; writing would block.
        if self.blocking {
            let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
            if !poll(&mut fds, Some(&rustix::event::Timespec::default()))
                .is_ok_and(|ready| ready > 0)
            {
                return;
            }
        }
        let _ = write(&self.fd, &1u64.to_ne_bytes());
    }
}

#[derive(Debug, Default)]
struct Vector {
    eventfd: Option<EventFd>,
    masked: bool,
    pending: bool,
}

#[derive(Debug)]
struct Type {
    flags: IrqFlags,
    vectors: Vec<Vector>,
}

/// All interrupts of a device.
#[derive(Debug)]
pub(crate) struct IrqTable {
    types: Vec<Type>,
}

impl IrqTable {
    pub(crate) fn new(types: &[IrqType]) -> Self {
        let make = |kind: &IrqType| Type {
            flags: kind.flags,
            vectors: (0..kind.count.min(VECTORS_MAX)).map(|_| Vector::default()).collect(),
        };
        Self { types: types.iter().map(make).collect() }
    }

    pub(crate) fn trigger(&mut self, index: u32, vector: u32) -> Triggered {
        let kind = self.types.get_mut(index as usize);
        let Some(vector) = kind.and_then(|kind| kind.vectors.get_mut(vector as usize)) else {
            return Triggered::NoSuch;
        };
        if vector.masked {
            vector.pending = true;
            return Triggered::Pending;
        }
        match &vector.eventfd {
            Some(eventfd) => {
                eventfd.signal();
                Triggered::Signalled
            }
            None => Triggered::Unarmed,
        }
    }

    /// Does what `DEVICE_SET_IRQS` asks for; nothing changes on an error. `changed` hears of each run of
    /// interrupts that the action applied to.
    pub(crate) fn set(
        &mut self,
        set: &IrqSet,
        data: &[u8],
        fds: impl ExactSizeIterator<Item = OwnedFd>,
        changed: &mut dyn FnMut(IrqChange),
    ) -> Result<(), Errno> {
        let flags = IrqSetFlags::from_bits(set.flags).ok_or(Errno::INVAL)?;
        let kind = self.types.get_mut(set.index as usize).ok_or(Errno::INVAL)?;
        let end = set.start.checked_add(set.count).ok_or(Errno::INVAL)?;
        let (from, to) = (set.start as usize, end as usize);
        let vectors = kind.vectors.len();
        let range = kind.vectors.get_mut(from..to).ok_or(Errno::INVAL)?;
        let (index, start, count) = (set.index, set.start, set.count);
        let action = one_action(flags)?;
        let data_flags =
            flags & (IrqSetFlags::DATA_NONE | IrqSetFlags::DATA_BOOL | IrqSetFlags::DATA_EVENTFD);
        if matches!(action, IrqAction::Mask | IrqAction::Unmask)
            && !kind.flags.contains(IrqFlags::MASKABLE)
        {
            return Err(Errno::NOTSUP);
        }
        if data_flags == IrqSetFlags::DATA_EVENTFD {
            return match action {
                // "If no file descriptors are provided, this de-assigns the interrupts."
                IrqAction::Trigger if fds.len() == 0 => {
                    range.iter_mut().for_each(|vector| vector.eventfd = None);
                    changed(IrqChange { index, start, count, action: IrqAction::Disarm });
                    Ok(())
                }
                IrqAction::Trigger if fds.len() == range.len() => {
                    let eventfds = fds.map(EventFd::new).collect::<Result<Vec<_>, _>>()?;
                    for (vector, eventfd) in range.iter_mut().zip(eventfds) {
                        vector.eventfd = Some(eventfd);
                    }
                    changed(IrqChange { index, start, count, action: IrqAction::Arm });
                    Ok(())
                }
                IrqAction::Trigger => Err(Errno::INVAL),
                // Eventfds that tell of masking are not offered.
                _ => Err(Errno::NOTSUP),
            };
        }
        // "As a special case, a count (and start) of 0 with DATA_NONE disables all interrupts of the index."
        if data_flags == IrqSetFlags::DATA_NONE && set.count == 0 && set.start == 0 {
            if !matches!(action, IrqAction::Trigger) {
                return Err(Errno::INVAL);
            }
            kind.vectors.fill_with(Vector::default);
            changed(IrqChange {
                index,
                start: 0,
                count: vectors as u32,
                action: IrqAction::Disarm,
            });
            return Ok(());
        }
        let meant: &dyn Fn(usize) -> bool = match data_flags {
            IrqSetFlags::DATA_NONE => &|_| true,
            IrqSetFlags::DATA_BOOL if data.len() == range.len() => &|at| data[at] != 0,
            _ => return Err(Errno::INVAL),
        };
        for vector in (0..range.len()).filter(|&at| meant(at)) {
            let number = start + vector as u32;
            match action {
                IrqAction::Mask => range[vector].masked = true,
                IrqAction::Unmask => range[vector].masked = false,
                _ => {}
            }
            let fire = matches!(action, IrqAction::Trigger)
                || (matches!(action, IrqAction::Unmask)
                    && std::mem::take(&mut range[vector].pending));
            if fire {
                if range[vector].masked {
                    range[vector].pending = true;
                } else if let Some(eventfd) = &range[vector].eventfd {
                    eventfd.signal();
                }
            }
            changed(IrqChange { index, start: number, count: 1, action });
        }
        Ok(())
    }
}

fn one_action(flags: IrqSetFlags) -> Result<IrqAction, Errno> {
    let actions =
        IrqSetFlags::ACTION_MASK | IrqSetFlags::ACTION_UNMASK | IrqSetFlags::ACTION_TRIGGER;
    match flags & actions {
        IrqSetFlags::ACTION_MASK => Ok(IrqAction::Mask),
        IrqSetFlags::ACTION_UNMASK => Ok(IrqAction::Unmask),
        IrqSetFlags::ACTION_TRIGGER => Ok(IrqAction::Trigger),
        // "The flags are mutually exclusive."
        _ => Err(Errno::INVAL),
    }
}

/// An eventfd for interrupts: non-blocking, counting.
///
/// # Errors
/// What the system says when it has no descriptor left.
pub fn interrupt_eventfd() -> std::io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Takes the number of interrupts that were signalled since the last time; 0 when there were none.
///
/// # Errors
/// When the descriptor is no eventfd.
pub fn take_interrupts(eventfd: impl AsFd) -> std::io::Result<u64> {
    let mut count = [0; 8];
    match read(eventfd, &mut count) {
        Ok(_) => Ok(u64::from_ne_bytes(count)),
        Err(Errno::AGAIN) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIGGER: u32 = IrqSetFlags::ACTION_TRIGGER.bits();
    const MASK: u32 = IrqSetFlags::ACTION_MASK.bits();
    const UNMASK: u32 = IrqSetFlags::ACTION_UNMASK.bits();
    const NONE: u32 = IrqSetFlags::DATA_NONE.bits();
    const BOOL: u32 = IrqSetFlags::DATA_BOOL.bits();
    const EVENTFD: u32 = IrqSetFlags::DATA_EVENTFD.bits();

    fn table() -> IrqTable {
        IrqTable::new(&[IrqType { count: 4, flags: IrqFlags::EVENTFD | IrqFlags::MASKABLE }])
    }

    fn set(
        table: &mut IrqTable,
        flags: u32,
        range: (u32, u32),
        data: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(), Errno> {
        let set = IrqSet { argsz: 20, flags, index: 0, start: range.0, count: range.1 };
        table.set(&set, data, fds.into_iter(), &mut |_| {})
    }

    #[test]
    fn armed_masked_pending_disarmed() {
        let mut table = table();
        let eventfd = interrupt_eventfd().unwrap();
        assert_eq!(table.trigger(0, 1), Triggered::Unarmed);
        set(&mut table, EVENTFD | TRIGGER, (1, 1), &[], vec![eventfd.try_clone().unwrap()])
            .unwrap();
        assert_eq!(table.trigger(0, 1), Triggered::Signalled);
        assert_eq!(take_interrupts(&eventfd).unwrap(), 1);

        set(&mut table, NONE | MASK, (1, 1), &[], vec![]).unwrap();
        assert_eq!(table.trigger(0, 1), Triggered::Pending);
        assert_eq!(take_interrupts(&eventfd).unwrap(), 0);
        set(&mut table, BOOL | UNMASK, (0, 2), &[1, 0], vec![]).unwrap();
        assert_eq!(take_interrupts(&eventfd).unwrap(), 0);
        set(&mut table, BOOL | UNMASK, (0, 2), &[0, 1], vec![]).unwrap();
        assert_eq!(take_interrupts(&eventfd).unwrap(), 1);

        set(&mut table, NONE | TRIGGER, (0, 4), &[], vec![]).unwrap();
        assert_eq!(take_interrupts(&eventfd).unwrap(), 1);
        set(&mut table, EVENTFD | TRIGGER, (1, 1), &[], vec![]).unwrap();
        assert_eq!(table.trigger(0, 1), Triggered::Unarmed);
    }

    #[test]
    fn a_count_of_zero_disarms_all() {
        let mut table = table();
        let fds = (0..4).map(|_| interrupt_eventfd().unwrap()).collect();
        set(&mut table, EVENTFD | TRIGGER, (0, 4), &[], fds).unwrap();
        set(&mut table, NONE | TRIGGER, (0, 0), &[], vec![]).unwrap();
        assert!((0..4).all(|vector| table.trigger(0, vector) == Triggered::Unarmed));
    }

    #[test]
    fn refusals() {
        let mut table = table();
        let fds = |n: usize| (0..n).map(|_| interrupt_eventfd().unwrap()).collect::<Vec<_>>();
        for (flags, range, data, n) in [
            (NONE | TRIGGER | MASK, (0, 1), &[][..], 0), // two actions
            (NONE | BOOL | TRIGGER, (0, 1), &[1], 0),    // two kinds of data
            (NONE, (0, 1), &[], 0),                      // no action
            (1 << 9 | NONE | TRIGGER, (0, 1), &[], 0),   // unknown flag
            (NONE | TRIGGER, (3, 2), &[], 0),            // past the end
            (NONE | TRIGGER, (u32::MAX, 2), &[], 0),     // wraps
            (BOOL | TRIGGER, (0, 2), &[1], 0),           // too little data
            (EVENTFD | TRIGGER, (0, 2), &[], 1),         // too few descriptors
            (EVENTFD | TRIGGER, (0, 1), &[], 2),         // too many
        ] {
            assert_eq!(
                set(&mut table, flags, range, data, fds(n)),
                Err(Errno::INVAL),
                "{flags:#x} {range:?}"
            );
        }
        assert_eq!(set(&mut table, EVENTFD | MASK, (0, 1), &[], fds(1)), Err(Errno::NOTSUP));
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        assert_eq!(set(&mut table, EVENTFD | TRIGGER, (0, 1), &[], vec![pipe]), Err(Errno::INVAL));
        assert_eq!(table.trigger(0, 4), Triggered::NoSuch);
        assert_eq!(table.trigger(1, 0), Triggered::NoSuch);
    }

    /// A client that fills its own eventfd must not stop the server.
    #[test]
    fn a_full_blocking_eventfd_does_not_block() {
        let mut table = table();
        let full = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        set(&mut table, EVENTFD | TRIGGER, (0, 1), &[], vec![full]).unwrap();
        assert_eq!(table.trigger(0, 0), Triggered::Signalled);
    }
}
