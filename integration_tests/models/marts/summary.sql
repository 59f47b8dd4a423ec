select count(*) as customers, sum(total) as total from {{ ref('big_customers') }}
