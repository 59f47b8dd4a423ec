select id as order_id, customer_id, amount, status, ordered_on
from {{ ref('raw_orders') }}
