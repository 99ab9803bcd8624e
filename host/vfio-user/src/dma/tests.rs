use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::*;
use crate::memory::{ClientMemory, SharedMemory};

const RW: DmaFlags = DmaFlags::READ.union(DmaFlags::WRITE);

fn memfd(bytes: u64, sealed: bool) -> OwnedFd {
    let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, bytes).unwrap();
    if sealed {
        fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
    }
    fd
}

fn read(table: &DmaTable, address: u64, len: usize) -> Result<Vec<u8>, DmaError> {
    table.check(address, len, DmaFlags::READ)?;
    let (mut data, mut done) = (vec![0; len], 0);
    while done < len {
        match table.read_piece(address + done as u64, &mut data[done..])? {
            Piece::Done(n) => done += n,
            Piece::Messages(_) => panic!("no messages here"),
        }
    }
    Ok(data)
}

fn write(table: &DmaTable, address: u64, data: &[u8]) -> Result<(), DmaError> {
    table.check(address, data.len(), DmaFlags::WRITE)?;
    let mut done = 0;
    while done < data.len() {
        match table.write_piece(address + done as u64, &data[done..])? {
            Piece::Done(n) => done += n,
            Piece::Messages(_) => panic!("no messages here"),
        }
    }
    Ok(())
}

/// Behind a vIOMMU neighbouring pages lie anywhere in the file.
#[test]
fn accesses_span_ranges() {
    let memory = SharedMemory::new(8 * 4096).unwrap();
    let mut table = DmaTable::default();
    for page in 0..8u64 {
        let file = memory.fd().try_clone().unwrap();
        table.map(0x10_0000 + page * 4096, 4096, RW, Some((file, (7 - page) * 4096))).unwrap();
    }
    let data: Vec<u8> = (0..8 * 4096u32).map(|at| (at / 7) as u8).collect();
    write(&table, 0x10_0000, &data).unwrap();
    assert_eq!(read(&table, 0x10_0000, data.len()).unwrap(), data);
    let mut last_page = vec![0; 4096];
    memory.read(0, &mut last_page).unwrap();
    assert_eq!(last_page, data[7 * 4096..]);
    // One file is mapped once.
    assert_eq!(table.files.len(), 1);
    assert_eq!(read(&table, 0x10_7fff, 2), Err(DmaError::Unmapped { address: 0x10_8000 }));
    assert_eq!(read(&table, 0xf_ffff, 1), Err(DmaError::Unmapped { address: 0xf_ffff }));
    assert_eq!(read(&table, u64::MAX, 2).unwrap_err(), DmaError::Unmapped { address: u64::MAX });
}

#[test]
fn permissions_are_kept() {
    let mut table = DmaTable::default();
    table.map(0, 4096, DmaFlags::READ, Some((memfd(4096, true), 0))).unwrap();
    table.map(4096, 4096, DmaFlags::WRITE, Some((memfd(4096, true), 0))).unwrap();
    assert!(read(&table, 0, 4096).is_ok());
    assert_eq!(write(&table, 0, &[1]), Err(DmaError::Forbidden { address: 0 }));
    assert!(write(&table, 4096, &[1]).is_ok());
    // Nothing is written when a later part forbids it.
    assert_eq!(read(&table, 4095, 2), Err(DmaError::Forbidden { address: 4096 }));
}

#[test]
fn overlaps_and_nonsense_are_refused() {
    let mut table = DmaTable::default();
    table.map(0x2000, 0x2000, RW, None).unwrap();
    for (address, size) in
        [(0x1000, 0x1001), (0x2000, 1), (0x3fff, 1), (0x3000, 0x5000), (0, u64::MAX)]
    {
        let refused = table.map(address, size, RW, None).unwrap_err();
        assert_eq!(refused.errno(), Errno::EXIST, "{address:#x} {size:#x}");
    }
    for (address, size) in [(0x5000, 0), (u64::MAX, 2), (0x8000, u64::MAX)] {
        assert_eq!(table.map(address, size, RW, None).unwrap_err().errno(), Errno::INVAL);
    }
    table.map(u64::MAX, 1, RW, None).unwrap();
    table.map(0x1000, 0x1000, RW, None).unwrap();
    table.map(0x4000, 0x1000, RW, None).unwrap();
    assert_eq!(table.len(), 4);
}

#[test]
fn unmapping() {
    let mut table = DmaTable::default();
    for page in 0..4 {
        table.map(page * 4096, 4096, RW, Some((memfd(4096, true), 0))).unwrap();
    }
    assert!(matches!(table.unmap(0, 6000), Err(DmaMapError::Cut { .. })));
    assert!(matches!(table.unmap(2048, 2048), Err(DmaMapError::Cut { .. })));
    assert_eq!(table.len(), 4);
    assert_eq!(table.unmap(4096, 4096).unwrap(), 1);
    assert_eq!(read(&table, 4096, 1), Err(DmaError::Unmapped { address: 4096 }));
    assert_eq!(table.unmap(4096, 4096).unwrap(), 0);
    assert_eq!(table.unmap(0, 1 << 40).unwrap(), 3);
    assert!(table.is_empty());
}

/// A file that its owner makes shorter must cost an error, not the process (SIGBUS).
#[test]
fn a_file_that_shrinks_is_an_error() {
    let fd = memfd(8192, false);
    let mut table = DmaTable::default();
    table.map(0, 8192, RW, Some((fd.try_clone().unwrap(), 0))).unwrap();
    write(&table, 4096, &[7; 16]).unwrap();
    assert_eq!(read(&table, 4096, 16).unwrap(), [7; 16]);
    ftruncate(&fd, 4096).unwrap();
    assert!(matches!(read(&table, 4096, 16), Err(DmaError::File { .. })));
}

#[test]
fn files_that_are_no_memory_of_that_size_are_refused() {
    let mut table = DmaTable::default();
    let (pipe, _other) = rustix::pipe::pipe().unwrap();
    let proc: OwnedFd = std::fs::File::open("/proc/self/stat").unwrap().into();
    let short = memfd(4096, true);
    for (fd, offset) in [(pipe, 0), (proc, 0), (short.try_clone().unwrap(), 1), (short, u64::MAX)] {
        let refused = table.map(0, 4096, RW, Some((fd, offset))).unwrap_err();
        assert!(matches!(refused, DmaMapError::File), "{refused}");
    }
    // Opened for reading only, lent for writing.
    let fd = memfd(4096, true);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let read_only = || OwnedFd::from(std::fs::File::open(&path).unwrap());
    assert_eq!(table.map(0, 4096, RW, Some((read_only(), 0))).unwrap_err().errno(), Errno::ACCESS);
    table.map(0, 4096, DmaFlags::READ, Some((read_only(), 0))).unwrap();
    assert_eq!(read(&table, 0, 4).unwrap(), [0; 4]);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_file_that_grew_is_mapped_anew() {
    let fd = memfd(4096, true);
    let mut table = DmaTable::default();
    table.map(0, 4096, RW, Some((fd.try_clone().unwrap(), 0))).unwrap();
    ftruncate(&fd, 8192).unwrap();
    table.map(4096, 4096, RW, Some((fd.try_clone().unwrap(), 4096))).unwrap();
    write(&table, 4090, &[9; 12]).unwrap();
    assert_eq!(read(&table, 4090, 12).unwrap(), [9; 12]);
}

/// Against a plain model: random maps, unmaps and look-ups give the same answer.
#[test]
fn agrees_with_a_page_by_page_model() {
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    let ops = prop::collection::vec((0u8..3, 0u64..24, 1u64..6), 1..60);
    TestRunner::default()
        .run(&ops, |ops| {
            let mut table = DmaTable::default();
            // Page to the number of the mapping that covers it.
            let mut model = [None::<usize>; 32];
            for (number, (op, page, pages)) in ops.into_iter().enumerate() {
                let range = page as usize..(page + pages) as usize;
                let (address, size) = (page << 12, pages << 12);
                match op {
                    0 => {
                        let free = model[range.clone()].iter().all(Option::is_none);
                        prop_assert_eq!(table.map(address, size, RW, None).is_ok(), free);
                        if free {
                            model[range].fill(Some(number));
                        }
                    }
                    1 => {
                        let inside = |at: usize| model[at].is_some();
                        let edge = |a: usize, b: usize| inside(a) && model[a] == model[b];
                        let cut = (range.start > 0 && edge(range.start - 1, range.start))
                            || (range.end < 32 && edge(range.end - 1, range.end));
                        prop_assert_eq!(table.unmap(address, size).is_err(), cut);
                        if !cut {
                            model[range].fill(None);
                        }
                    }
                    _ => {
                        let mapped = model[range].iter().all(Option::is_some);
                        prop_assert_eq!(table.check(address, size as usize, RW).is_ok(), mapped);
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}
