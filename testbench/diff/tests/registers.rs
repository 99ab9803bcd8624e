//! Both models answer register accesses alike.

use tandem_contract::nic::Nic;
use tandem_diff::registers;
use tandem_reference::ReferenceNic;
use tandem_rtl_bindings::{Rtl, RtlOptions};

#[test]
fn random_accesses() {
    for seed in 0..120_u64 {
        let data_w_bits = if seed % 2 == 0 { 64 } else { 512 };
        let mut options = RtlOptions::new(data_w_bits);
        options.random_state = Some(seed as u32 + 1);
        let rtl = Rtl::new(options).expect("the model is built");
        let reference = ReferenceNic::new(rtl.params().clone());
        if let Err(difference) = registers::compare(rtl, reference, seed, 2_000) {
            panic!("seed {seed}, DATA_W {data_w_bits}: rtl, reference: {difference}");
        }
    }
}
