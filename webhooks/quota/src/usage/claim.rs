//! PersistentVolumeClaims: the storage that they request, however they were created.
//!
//! An expansion that failed may be given up by a smaller request; until then the storage that is allocated for it
//! counts, as it does for ResourceQuota.

use gatehouse_apiservice::quantity::Quantity;

use super::{At, UsageError};
use crate::{Amounts, Dimension};

/// The resource, of the core group.
pub(crate) const RESOURCE: &str = "persistentvolumeclaims";

pub(super) fn storage(root: &At<'_, '_>) -> Result<Amounts, UsageError> {
    let spec = root.at("spec");
    spec.object()?;
    let resources = spec.at("resources");
    resources.object()?;
    let requests = resources.at("requests");
    requests.object()?;
    let requested = requests.key("storage").quantity()?.unwrap_or_default();
    Ok([(Dimension::RequestsStorage, requested.max(allocated(root)))].into_iter().collect())
}

/// The storage that the last expansion has allocated. An invalid status counts as zero: it is not part of the request.
fn allocated(root: &At<'_, '_>) -> Quantity {
    let allocated = root.at("status").at("allocatedResources").key("storage").quantity();
    allocated.ok().flatten().unwrap_or_default()
}
