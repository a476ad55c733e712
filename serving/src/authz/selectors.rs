//! Field and label selectors, as far as authorisation needs them.
//!
//! A selector in an access review can only narrow what is asked for. One that cannot be read is therefore left
//! out, which asks for more and at worst is denied; the endpoint refuses it afterwards.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldSelectorRequirement, LabelSelectorRequirement};

use crate::selector::{FieldTerm, LabelSelector, field_terms};

/// The name that a field selector demands by `metadata.name=NAME`, if it can be an object's name.
pub(crate) fn required_name(selector: &str) -> Option<String> {
    let demands = |term: &FieldTerm<'_>| term.equal && term.label == "metadata.name";
    let name = field_terms(selector).ok()?.into_iter().find(demands)?.value;
    let is_path_segment = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%']);
    is_path_segment.then_some(name)
}

/// The terms of a field selector.
pub(super) fn fields(selector: &str) -> Vec<FieldSelectorRequirement> {
    let terms = field_terms(selector).unwrap_or_default().into_iter().map(|term| FieldSelectorRequirement {
        key: term.label.to_owned(),
        operator: if term.equal { "In" } else { "NotIn" }.to_owned(),
        values: Some(vec![term.value]),
    });
    terms.collect()
}

/// The terms of a label selector, set-based ones too. `Gt` and `Lt` do not exist in an access review.
pub(super) fn labels(selector: &str) -> Vec<LabelSelectorRequirement> {
    LabelSelector::parse(selector).map(|selector| selector.requirements()).unwrap_or_default()
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
        assert_eq!(required_name("nonsense,metadata.name=a"), None);
    }

    #[test]
    fn a_name_is_demanded_by_equality_alone() {
        assert_eq!(required_name("metadata.name=a").as_deref(), Some("a"));
        assert_eq!(required_name("status.state=Failed,metadata.name==a").as_deref(), Some("a"));
        for selector in ["metadata.name!=a", "metadata.name=", "metadata.name=a/b", "status.state=Failed"] {
            assert_eq!(required_name(selector), None, "{selector}");
        }
    }
}
