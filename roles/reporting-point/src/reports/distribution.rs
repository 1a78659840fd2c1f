//! Where content is.

use patchtide_model::ObjectName;

use super::{
    ReportError,
    ground::Ground,
    table::{Table, percent},
};

/// Distribution 1 (R-RPT-27).
pub(super) async fn points(ground: &Ground<'_>) -> Result<Table, ReportError> {
    let mut table = Table::default();
    for row in ground.site.objects("DistributionPoint").await? {
        let Ok(name) = ObjectName::new(row.name) else { continue };
        let states = ground.site.dp_states(&name).await?;
        table.row(vec![
            name.to_string().into(),
            states.wanted.into(),
            states.present.into(),
            states.errors.len().into(),
            states.wanted_bytes.into(),
            states.bytes.into(),
            percent(states.present, states.wanted),
            states.errors.into_values().next().into(),
        ]);
    }
    Ok(table)
}
