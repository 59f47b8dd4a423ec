-- The diamond end to end, against the application's own table.
select s.total, f.total as expected
from (select sum(flights) as total from {{ ref('scorecard') }}) as s
cross join (
    select count(*) as total
    from {{ source('nyc', 'flights') }}
    where dep_time is not null
) as f
where s.total is distinct from f.total
