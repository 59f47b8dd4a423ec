{# Step 2 adds a column, step 3 drops one. -#}
{{ config(grants={'select': ['public']}, indexes=[{'columns': ['customer_id']}]) }}
with customers as (
    select * from {{ ref('raw_customers') }}
),

orders as (
    select * from {{ ref('stg_orders') }}
)

select
    customers.id as customer_id,
    customers.name,
    {% if var('step') < 3 %}customers.country,{% endif %}
    {% if var('step') >= 2 %}orders.status,{% endif %}
    orders.order_id
from customers
left join orders on orders.customer_id = customers.id
