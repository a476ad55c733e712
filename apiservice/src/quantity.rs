//! Quantities, exact: `500m`, `2Gi`, `1e3`, as `k8s.io/apimachinery/pkg/api/resource` writes them.
