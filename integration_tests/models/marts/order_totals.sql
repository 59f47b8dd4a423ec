{# Step 2 changes the query and keeps the columns. -#}
select customer_id, count(*) as orders, sum(amount) as total
from {{ ref('stg_orders') }}
{% if var('step') >= 2 %}where status <> 'returned'{% endif %}
group by customer_id
