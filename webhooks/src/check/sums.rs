//! stub
use super::{
    Live,
    files::Files,
    judge::{Placed, Verdicts},
    laws::{Labels, Law, Namespaces},
};
use gatehouse_apiservice::policy::{FieldError, TenantQuota};
use std::collections::BTreeMap;
#[derive(Debug)]
pub(super) struct CompiledQuota {
    pub(super) name: String,
}
impl CompiledQuota {
    pub(super) fn compile(quota: &TenantQuota) -> Result<Self, Vec<FieldError>> {
        Ok(Self { name: quota.metadata.name.clone().unwrap_or_default() })
    }
}
pub(super) fn exceeded(
    _: &Files,
    _: &[Placed<'_>],
    _: &[Law<CompiledQuota>],
    _: &Namespaces,
    _: &Live,
) -> Verdicts {
    let _: Option<BTreeMap<String, Labels>> = None;
    Verdicts::default()
}
