//! The JSON of `VERSION`: what either end can take (section "VFIO_USER_VERSION").

use serde::{Deserialize, Serialize};

use super::ParseError;

/// Longest JSON that is read, in bytes.
pub const JSON_LEN_MAX: usize = 4096;

/// What an end of the connection can take. A field that is `None` was not sent; the accessors give the
/// protocol's default for it.
///
/// `migration` and `twin_socket` are never sent: this crate has neither. Unknown names are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Most descriptors that the sender receives in one message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msg_fds: Option<u64>,
    /// Most bytes in one data transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_data_xfer_size: Option<u64>,
    /// Page sizes for DMA, or'ed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgsizes: Option<u64>,
    /// Most DMA ranges at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_dma_maps: Option<u64>,
    /// Whether `REGION_WRITE_MULTI` is understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_multiple: Option<bool>,
}

#[derive(Default, Serialize, Deserialize)]
struct VersionData {
    #[serde(default)]
    capabilities: Capabilities,
}

impl Capabilities {
    /// Parses what follows the version numbers: nothing, or JSON that ends with a NUL.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        // "Optional": an absent object and an empty one mean the same.
        let Some((&last, json)) = bytes.split_last() else { return Ok(Self::default()) };
        if last != 0 {
            return Err(ParseError::Json("is not terminated by a NUL".into()));
        }
        if json.is_empty() {
            return Ok(Self::default());
        }
        if json.len() > JSON_LEN_MAX {
            return Err(ParseError::Json(format!("is longer than {JSON_LEN_MAX} bytes")));
        }
        let data: VersionData =
            serde_json::from_slice(json).map_err(|error| ParseError::Json(error.to_string()))?;
        // A transfer size of 0 would leave no way to move data, so it is refused here, once.
        if data.capabilities.max_data_xfer_size == Some(0) {
            return Err(ParseError::Json("max_data_xfer_size is 0".into()));
        }
        Ok(data.capabilities)
    }

    /// The JSON with its NUL.
    pub fn emit(&self) -> Vec<u8> {
        let data = VersionData { capabilities: *self };
        let mut bytes = serde_json::to_vec(&data).expect("plain numbers serialize");
        bytes.push(0);
        bytes
    }

    /// Most descriptors in one message; 1 when not sent.
    pub fn msg_fds_max(&self) -> usize {
        self.max_msg_fds.map_or(1, |fds| usize::try_from(fds).unwrap_or(usize::MAX))
    }

    /// Most bytes in one data transfer; 1 MiB when not sent.
    pub fn data_xfer_bytes_max(&self) -> usize {
        self.max_data_xfer_size
            .map_or(1 << 20, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Most DMA ranges at one time; 65535 when not sent.
    pub fn dma_maps_max(&self) -> usize {
        self.max_dma_maps.map_or(65535, |maps| usize::try_from(maps).unwrap_or(usize::MAX))
    }
}
