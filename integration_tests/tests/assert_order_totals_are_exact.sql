-- Both directions, with multiplicity.
with expected as (
    select customer_id, count(*) as orders, sum(amount) as total
    from {{ ref('stg_orders') }}
    {% if var('step') >= 2 %}where status <> 'returned'{% endif %}
    group by customer_id
),
actual as (select customer_id, orders, total from {{ ref('order_totals') }})

(select 'missing' as problem, * from expected except all select 'missing', * from actual)
union all
(select 'extra', * from actual except all select 'extra', * from expected)
