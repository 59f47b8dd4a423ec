-- depends_on: {{ ref('order_totals') }} {{ ref('big_customers') }} {{ ref('customer_orders') }} {{ ref('summary') }}
-- The view has one row per stream table; a name that is not registered has one with status NOT_FOUND.
select wanted.name, state.status
from (values ('order_totals'), ('big_customers'), ('customer_orders'), ('summary')) as wanted (name)
cross join lateral pgtrickle.stream_table_status('{{ target.schema }}.' || wanted.name) as state
where state.status <> 'ACTIVE' or not state.populated
