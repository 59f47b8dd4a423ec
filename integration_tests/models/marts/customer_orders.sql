{# Step 2 adds a column, step 3 drops one. -#}
{{ config(grants={'select': ['public']}, indexes=[{'columns': ['customer_id']}]) }}
select
    c.id as customer_id,
    c.name,
    {% if var('step') < 3 %}c.country,{% endif %}
    {% if var('step') >= 2 %}o.status,{% endif %}
    o.order_id
from {{ ref('raw_customers') }} as c
left join {{ ref('stg_orders') }} as o on o.customer_id = c.id
