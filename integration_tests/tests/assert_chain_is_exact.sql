with expected as (
    select count(*) as customers, sum(total) as total from (
        select customer_id, sum(amount) as total
        from {{ ref('stg_orders') }}
        {% if var('step') >= 2 %}where status <> 'returned'{% endif %}
        group by customer_id
    ) as totals
    where total >= 20
),
actual as (select customers, total from {{ ref('summary') }})

(select 'missing' as problem, * from expected except all select 'missing', * from actual)
union all
(select 'extra', * from actual except all select 'extra', * from expected)
