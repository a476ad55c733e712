//! Field and label selectors as requirements of a SubjectAccessReview.
//!
//! A selector in a review can only narrow the request. One that cannot be parsed is therefore left out: the review then
//! asks for more, and may be denied. The endpoint rejects the selector afterwards.

use gatehouse_apiservice::labels::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldSelectorRequirement, LabelSelectorRequirement};

use crate::field_selector::field_terms;

/// The requirements of a field selector; none if it cannot be parsed.
pub(super) fn fields(selector: &str) -> Vec<FieldSelectorRequirement> {
    let terms = field_terms(selector).unwrap_or_default().into_iter().map(|term| FieldSelectorRequirement {
        key: term.label.to_owned(),
        operator: if term.equal { "In" } else { "NotIn" }.to_owned(),
        values: Some(vec![term.value]),
    });
    terms.collect()
}

/// The requirements of a label selector, set-based ones included; none if it cannot be parsed. A review has no `Gt` and
/// `Lt`, so these are left out.
pub(super) fn labels(selector: &str) -> Vec<LabelSelectorRequirement> {
    Selector::parse(selector).map(|selector| selector.requirements()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_become_requirements() {
        let fields = fields(r"a=x\,y,b!=2,c==3");
        let shown: Vec<_> =
            fields.iter().map(|f| (&*f.key, &*f.operator, f.values.clone().unwrap())).collect();
        let value = |text: &str| vec![text.to_owned()];
        assert_eq!(shown, [("a", "In", value("x,y")), ("b", "NotIn", value("2")), ("c", "In", value("3"))]);
        let labels = labels("a in (x, y),!b");
        let shown: Vec<_> = labels.iter().map(|l| (&*l.key, &*l.operator)).collect();
        assert_eq!(shown, [("a", "In"), ("b", "DoesNotExist")]);
    }

    #[test]
    fn what_cannot_be_read_asks_for_everything() {
        assert!(fields("nonsense,a=1").is_empty() && labels("a in (").is_empty());
    }
}
