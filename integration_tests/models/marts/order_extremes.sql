{# Step 2 changes the mode. -#}
{{ config(refresh_mode='FULL' if var('step') < 2 else 'DIFFERENTIAL') }}
select customer_id, min(amount) as smallest, max(amount) as largest
from {{ ref('paid_orders') }}
group by customer_id
